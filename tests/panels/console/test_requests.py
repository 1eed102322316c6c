"""Requests: the list says who, what and why; the record is whole; content needs a given right."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

from triptych.panels.console.accounts import Accounts
from triptych.panels.console.requests import view
from triptych.panels.console.words import cause
from triptych.panels.sign_in.identity import SignIn
from triptych.panels.web.site import Site

ATTACK = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
FLAGS = {"provider.hf_spaces": "off", "provider.openai": "on", "tier.base": "on"}
OFF = {"error_code": "no_provider_available", "tier_asked": "base", "flags": FLAGS}


def use_script(gateway: Any) -> None:
    gateway.call("PUT", "/admin/flags/provider.scripted", {"value": True})
    gateway.call("PUT", "/admin/flags/real_ai_only", {"value": False})


def listed(gateway: Any, at_least: int = 1) -> list[dict[str, Any]]:
    """Return the latest requests once so many are on the record."""
    for _ in range(200):
        rows = gateway.call("GET", "/api/requests")["requests"]
        if len(rows) >= at_least:
            return rows
        time.sleep(0.05)
    raise AssertionError("the requests did not reach the record")


@pytest.mark.parametrize(
    ("row", "configured", "words"),
    [
        (OFF, {"hf_spaces"}, "Spaces are switched off"),
        (OFF, set(), "no provider has been added yet"),
        (OFF | {"flags": {"tier.base": "off"}}, None, "the tier base is switched off"),
        (OFF | {"flags": {}}, {"local"}, "no provider was available"),
        ({"error_code": "budget_spent"}, None, "a budget was used up"),
        ({"reason": "explicit_model"}, None, "the tier was named in the request"),
    ],
)
def test_a_request_says_its_cause_in_words(
    row: dict[str, Any], configured: set[str] | None, words: str
) -> None:
    assert cause(row, configured) == words


def test_the_list_says_who_what_and_why_and_filters_by_pick_lists(gateway: Any, admin: Any) -> None:
    use_script(gateway)
    gateway.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme & Co"})
    gateway.call("POST", "/admin/users", {"user_id": "ann", "companies": ["acme"]})
    key = gateway.call("POST", "/api/keys", {"name": "ann's", "kind": "user", "user_id": "ann",
                                             "company_id": "acme"})["key"]  # fmt: skip
    gateway.chat("hello", key)
    gateway.chat("hello", model="company")
    listed(gateway, 2)
    text = admin.text("/console/requests")
    assert "ann, Acme &amp; Co" in text and "echo at first" in text
    assert "answered, after a fallback: the provider does not answer" in text
    assert "company → base" in text and "answered: the tier is switched off" in text
    assert '<option value="acme">Acme &amp; Co</option>' in text
    assert '<option value="ann">ann</option>' in text
    only = admin.text("/console/requests?company_id=acme&user_id=ann&outcome=ok")
    assert "ann, Acme &amp; Co" in only and "company → " not in only and "failed: " not in only
    assert "No request matches these filters." in admin.text("/console/requests?user_id=absent")


def test_the_first_admin_gives_herself_the_right_to_read_content_and_the_audit_records_it(
    gateway: Any, admin: Any
) -> None:
    use_script(gateway)
    gateway.chat("a secret wording")
    path = f"/console/requests/{listed(gateway)[0]['request_id']}"
    assert "Show what was written" in admin.text(path)
    refused = admin.post(f"{path}/content", by_htmx=True)
    assert "This sign-in may not read what people wrote yet." in refused.text
    assert f'action="{path}/allow"' in refused.text and "<html" not in refused.text
    given = admin.post(f"{path}/allow", by_htmx=True).text
    assert "a secret wording" in given or "has not consented" in given
    actions = [row["action"] for row in gateway.call("GET", "/admin/audit")["entries"]]
    assert {"keys.content", "content.view_refused"} <= set(actions)
    assert "may not read" not in admin.post(f"{path}/content", by_htmx=True).text


def test_a_companys_admin_sees_her_company_only(gateway: Any, sign_in: Any) -> None:
    use_script(gateway)
    for company in ("one", "two"):
        gateway.call("POST", "/admin/companies", {"company_id": company, "name": company.title()})
    keys = {
        company: gateway.call("POST", "/api/keys", {"name": f"boss of {company}",
                              "role": "company_admin", "company_id": company})["key"]
        for company in ("one", "two")
    }  # fmt: skip
    before = len(listed(gateway, 0))
    gateway.chat("hello", keys["two"])
    foreign = listed(gateway, before + 1)[0]["request_id"]
    one = sign_in(keys["one"])
    text = one.text("/console/requests?since=ever")
    assert "boss of two" not in text and "Two" not in text
    assert one.get(f"/console/requests/{foreign}").status_code == 404
    assert one.get("/console/requests?company_id=two").status_code == 403
    assert "boss of two" in sign_in(keys["two"]).text("/console/requests")


def test_an_admin_of_two_companies_reaches_both(gateway: Any, sign_in: Any) -> None:
    use_script(gateway)
    for company in ("north", "south"):
        gateway.call("POST", "/admin/companies", {"company_id": company, "name": company.title()})
    both = {"user_id": "dora", "role": "company_admin", "companies": ["north", "south"]}
    gateway.call("POST", "/admin/users", both)
    made = {"name": "dora's", "kind": "user", "role": "company_admin", "user_id": "dora"}
    dora = sign_in(gateway.call("POST", "/api/keys", made)["key"])
    app = gateway.call("POST", "/api/keys", {"name": "app", "company_id": "south"})["key"]
    before = len(gateway.call("GET", "/api/requests?company_id=south")["requests"])
    gateway.chat("hello", app)
    rows: list[dict[str, Any]] = []
    while len(rows) <= before:
        rows = gateway.call("GET", "/api/requests?company_id=south")["requests"]
    assert "app, South" in dora.text("/console/requests?company_id=south")
    path = f"/console/requests/{rows[0]['request_id']}"
    assert "South" in dora.text(path)
    assert "may not read" in dora.post(f"{path}/content", by_htmx=True).text
    for page in ("feedback", "people", "people/keys", "people/budgets", "privacy",
                 "privacy/consents", "knowledge", "patterns"):  # fmt: skip
        assert dora.get(f"/console/{page}").status_code == 200, page


def test_everything_shown_of_a_request_is_drawn_as_text(tmp_path: Path) -> None:
    sign_in = SignIn("http://127.0.0.1:9", "", "", tmp_path / "cookie.key")
    row = {
        "request_id": ATTACK, "created_at": 0.0, "latency_s": 1.0, "outcome": ATTACK, "status": 502,
        "tier_asked": ATTACK, "tier_served": ATTACK, "model_asked": ATTACK, "model": ATTACK,
        "upstream": ATTACK, "provider": ATTACK, "error_code": ATTACK, "reason": ATTACK,
        "fallback_reason": ATTACK, "company_id": ATTACK, "user_id": ATTACK, "key_id": ATTACK,
        "feature": ATTACK, "consent": ATTACK, "revision": ATTACK, "finish_reason": ATTACK,
        "input_tokens": 1, "output_tokens": 1, "cost_microusd": 1, "ttft_s": 0.1,
        "overhead_s": 0.1, "flags": {ATTACK: ATTACK}, "evidence": {"nearest": [ATTACK]},
        "tries": [{"number": 1, "upstream": ATTACK, "outcome": ATTACK, "created_at": 0.1,
                   "latency_s": 0.5, "error_code": ATTACK}],
    }  # fmt: skip
    accounts = Accounts("admin", {})
    shown = view.record(row, [{"kind": ATTACK, "author": ATTACK, "value": ATTACK}], accounts)
    table = view.listed([row], None, {}, accounts)
    assert json.dumps(str(shown)).count("script") > 20
    templates = Site(sign_in, sign_in.key).templates
    parts = templates.get_template("web/templates/parts.html").make_module({})
    html = str(parts.table(table)) + templates.get_template("console/requests/record.html").render(
        record=shown, request_id=ATTACK, path=ATTACK, parts=parts, here="/console/requests",
        console_menu=lambda role: [],
        kept={"turns": [(ATTACK, ATTACK)]}, session=None, csrf="",
    )  # fmt: skip
    assert "<script>alert" not in html and "<img src=x" not in html
    assert html.count("&lt;script&gt;") > 20


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_a_request_is_found_by_filter_and_keyboard_and_its_record_read(
    gateway: Any, open_console: Callable[..., Any], width: int, theme: str
) -> None:
    use_script(gateway)
    gateway.chat("hello")
    listed(gateway)
    page = open_console("/console/requests", width=width, height=800, color_scheme=theme)
    page.get_by_label("Outcome").select_option("ok")
    page.wait_for_function("!document.querySelector('#requests').textContent.includes('failed:')")
    fits(page)
    screenshot(page, f"console-requests-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator("#requests tr.link a").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Attempts").wait_for()
    page.get_by_role("button", name="Show what was written").press("Enter")
    page.locator("#kept .turns, #kept [role]").first.wait_for()
    fits(page)
    screenshot(page, f"console-request-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
