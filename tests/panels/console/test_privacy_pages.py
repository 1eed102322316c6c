"""Privacy: data requests with agreement before an erasure, consents, retention and holds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

ATTACK = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
HOME = "/console/privacy"


@pytest.fixture
def boss(gateway: Any, sign_in: Any) -> Any:
    """Return an admin of the company acme, signed in."""
    for name in ("acme", "globex"):
        gateway.call("POST", "/admin/companies", {"company_id": name, "name": name.title()})
    gateway.call("POST", "/admin/users", {"user_id": "ann", "companies": ["acme"]})
    made = {"name": "boss", "role": "company_admin", "company_id": "acme"}
    return sign_in(gateway.call("POST", "/api/keys", made)["key"])


def rows(gateway: Any, kind: str) -> list[dict[str, Any]]:
    found = gateway.call("GET", "/api/privacy/requests")["requests"]
    return [row for row in found if row["kind"] == kind]


def test_an_erasure_says_what_goes_and_is_sent_only_after_agreement(
    gateway: Any, boss: Any
) -> None:
    sent = {"kind": "erasure", "company_id": "acme", "user_id": "ann", "categories": "content"}
    asked = boss.post(f"{HOME}/requests", by_htmx=True, **sent).text
    assert "what was written about user ann of company Acme is erased" in asked
    assert 'name="categories" value="content"' in asked and rows(gateway, "erasure") == []
    done = boss.post(f"{HOME}/requests", by_htmx=True, agreed="yes", **sent).text
    assert "Data request sent: erase what is stored, user ann of company Acme" in done
    (row,) = rows(gateway, "erasure")
    assert row["details"]["categories"] == ["content"]
    foreign = boss.post(f"{HOME}/requests", by_htmx=True, kind="export", company_id="globex")
    assert foreign.status_code == 422 and rows(gateway, "export") == []


def test_an_export_is_downloaded_and_a_correction_closed(
    gateway: Any, boss: Any, admin: Any
) -> None:
    boss.post(f"{HOME}/requests", kind="export", company_id="acme", user_id="ann")
    boss.post(f"{HOME}/requests", kind="correction", company_id="acme", details=ATTACK)
    for _ in range(400):
        (export,) = rows(gateway, "export")
        if export["state"] == "done":
            break
        time.sleep(0.05)
    path = f"{HOME}/requests/{export['privacy_id']}"
    assert "Download the export" in boss.text(path)
    got = boss.get(f"{path}/export")
    assert "attachment" in got.headers["content-disposition"]
    assert all(json.loads(line) for line in got.text.splitlines())
    (correction,) = rows(gateway, "correction")
    path = f"{HOME}/requests/{correction['privacy_id']}"
    shown = admin.text(path)
    assert "<script>alert" not in shown and "Close the correction" in shown
    closed = admin.post(f"{path}/close", note="spelled right", by_htmx=True).text
    assert "Correction closed" in closed and rows(gateway, "correction")[0]["state"] == "done"
    assert admin.post(f"{path}/close", note="", by_htmx=True).status_code == 200


def test_a_consent_is_withdrawn_and_allowed_with_its_history(gateway: Any, boss: Any) -> None:
    page = boss.text(f"{HOME}/consents")
    assert "Acme allows" in page and "Globex" not in page
    for granted, words in (("yes", "Allowed: count its practices"), ("no", "Withdrawn: count")):
        sent = {"company": "acme", "purpose": "abstraction", "granted": granted}
        assert words in boss.post(f"{HOME}/consents", by_htmx=True, **sent).text
    foreign = {"company": "globex", "purpose": "serve", "granted": "no"}
    assert boss.post(f"{HOME}/consents", by_htmx=True, **foreign).status_code == 403
    assert gateway.call("GET", "/api/consent?company_id=globex")["history"] == []


def test_a_legal_hold_is_added_and_lifted_by_an_admin_only(
    gateway: Any, boss: Any, admin: Any
) -> None:
    assert boss.get(f"{HOME}/retention").status_code == 403
    path = f"{HOME}/retention/holds"
    held = admin.post(path, subject="user:ann", reason=ATTACK, by_htmx=True).text
    assert "Legal hold added" in held and "<script>alert" not in held
    assert gateway.call("GET", "/admin/legal-holds")["holds"][0]["subject"] == "user:ann"
    assert "lifted" in admin.post(f"{path}/lift", subject="user:ann", by_htmx=True).text
    assert gateway.call("GET", "/admin/legal-holds")["holds"] == []


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (360, "light")])
def test_privacy_is_used_by_keyboard_at_both_sizes(
    boss: Any, gateway: Any, open_console: Callable[..., Any], width: int, theme: str
) -> None:
    page = open_console(HOME, width=width, height=800, color_scheme=theme)
    page.get_by_label("What", exact=True).select_option("erasure")
    page.get_by_label("About the user").select_option("ann")
    page.get_by_role("button", name="Send request").press("Enter")
    page.get_by_role("alert").get_by_text("cannot be taken back").wait_for()
    for tab in ("Data requests", "Consents", "Retention"):
        if tab != "Data requests":
            tabs = page.get_by_role("navigation", name="Privacy")
            tabs.get_by_role("link", name=tab).press("Enter")
            page.wait_for_function(f"document.title.startsWith('{tab}')")
        fits(page)
        screenshot(page, f"console-privacy-{tab.split()[0].lower()}-{width}-{theme}")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{tab}: {found.generate_report()}"
