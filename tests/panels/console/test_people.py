"""People: companies, users, keys and budgets, with every message beside its form."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

from triptych.errors import InvalidQuery
from triptych.panels.console.people import facts

ATTACK = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
HOME = "/console/people"


def company(gateway: Any, name: str = "acme") -> str:
    """Return the key of an admin of a new company."""
    gateway.call("POST", "/admin/companies", {"company_id": name, "name": name.title()})
    made = {"name": f"boss of {name}", "role": "company_admin", "company_id": name}
    return str(gateway.call("POST", "/api/keys", made)["key"])


def spend(gateway: Any, name: str) -> None:
    """Use a few tokens of a company."""
    gateway.call("PUT", "/admin/flags/provider.scripted", {"value": True})
    gateway.call("PUT", "/admin/flags/real_ai_only", {"value": False})
    made = {"name": f"app of {name}", "company_id": name}
    gateway.chat("hello", gateway.call("POST", "/api/keys", made)["key"])


def test_facts_survive_the_form_unchanged_and_a_wrong_line_is_named() -> None:
    kept = {"leave": "25 days\n\na year", "staff": 12, "sites": ["Bonn", "Köln"], "note": "a: b"}
    text = facts.written(kept)
    again = facts.read(text, kept)
    assert again == kept | {"leave": "25 days\na year"}
    assert facts.read(text.replace("12", "13"), kept)["staff"] == "13"
    with pytest.raises(InvalidQuery, match="line 2 is not `name: value`"):
        facts.read("a: b\nno colon", {})
    with pytest.raises(InvalidQuery, match="'a' is there twice"):
        facts.read("a: b\na: c", {})


def test_an_untouched_budget_form_locks_no_company_out(gateway: Any, admin: Any) -> None:
    company(gateway, "trap")
    shown = admin.text(f"{HOME}/budgets")
    fields = re.findall(r'<input id="f-(?:tokens|usd)"[^>]*>', shown)
    assert len(fields) == 2 and all('value=""' in field for field in fields)
    untouched = admin.post(f"{HOME}/budgets", whom="company:trap", period="month", tokens="",
                           usd="", by_htmx=True)  # fmt: skip
    assert untouched.status_code == 422
    assert 'id="f-tokens-error" role="alert">a budget limits tokens or dollars' in untouched.text
    zero = admin.post(f"{HOME}/budgets", whom="company:trap", period="month", tokens="0", usd="")
    assert zero.status_code == 422 and "greater than or equal to 1" in zero.text
    assert gateway.call("GET", "/api/budgets")["budgets"] == []
    done = admin.post(f"{HOME}/budgets", whom="company:trap", period="month", tokens="5000",
                      usd="", by_htmx=True)  # fmt: skip
    assert "Budget set: Company Trap may use 5,000 tokens a month" in done.text
    (row,) = gateway.call("GET", "/api/budgets")["budgets"]
    assert (row["max_tokens"], row["max_cost_microusd"]) == (5000, None)
    gateway.call("DELETE", "/api/budgets/company:trap/month")


def test_a_budget_that_is_used_up_already_is_set_only_after_agreement(
    gateway: Any, admin: Any
) -> None:
    company(gateway, "busy")
    wide = {"max_tokens": 10**6, "expected_version": 0}
    gateway.call("PUT", "/api/budgets/company:busy/month", wide)
    spend(gateway, "busy")
    for _ in range(200):
        (row,) = gateway.call("GET", "/api/budgets?company_id=busy")["budgets"]
        if row["tokens"]:
            break
    sent = {"whom": "company:busy", "period": "month", "tokens": "1", "usd": ""}
    asked = admin.post(f"{HOME}/budgets", by_htmx=True, **sent).text
    assert "Company Busy has used this up already" in asked and "Set it all the same" in asked
    (row,) = gateway.call("GET", "/api/budgets?company_id=busy")["budgets"]
    assert row["max_tokens"] == 10**6
    assert "Budget set" in admin.post(f"{HOME}/budgets", by_htmx=True, agreed="yes", **sent).text
    ended = admin.post(f"{HOME}/budgets/end", whom="company:busy", period="month", by_htmx=True)
    assert "Budget removed" in ended.text
    assert gateway.call("GET", "/api/budgets?company_id=busy")["budgets"] == []


def test_a_message_stands_beside_the_form_that_was_sent(admin: Any) -> None:
    added = admin.post(f"{HOME}/users", user_id="bea", role="user", company_id="", by_htmx=True)
    form = added.text[added.text.index("<form") :]
    assert 'role="status"' in form and "User bea added" in form
    again = admin.post(f"{HOME}/users", user_id="bea", role="user", company_id="", by_htmx=True)
    assert again.status_code >= 400
    assert "bea" in again.text[again.text.index("<form") :].partition('role="alert"')[2]
    wrong = admin.post(f"{HOME}/users", user_id="no spaces", role="user", by_htmx=True)
    assert 'id="f-user_id-error" role="alert"' in wrong.text and 'value="no spaces"' in wrong.text


def test_a_companys_admin_edits_its_facts_and_invites_but_sees_no_other(
    gateway: Any, admin: Any, sign_in: Any
) -> None:
    boss = sign_in(company(gateway, "acme"))
    company(gateway, "globex")
    gateway.call("POST", "/admin/users", {"user_id": "carl"})
    path = f"{HOME}/companies/acme"
    saved = boss.post(path, name="Acme", industry="", facts=f"leave: 25 days\nnote: {ATTACK}",
                      by_htmx=True)  # fmt: skip
    assert "Company saved" in saved.text and "<script>alert" not in saved.text
    (row,) = gateway.call("GET", "/api/companies?company_id=acme")["companies"]
    assert row["facts"] == {"leave": "25 days", "note": ATTACK}
    wrong = boss.post(path, name="Acme", facts="no colon", by_htmx=True)
    assert 'id="company-facts-error" role="alert">line 1 is not' in wrong.text
    invited = boss.post(f"{path}/members", user_id="carl", by_htmx=True).text
    assert "carl is invited and becomes a member by accepting" in invited
    assert "Globex" not in boss.text(HOME) and "Acme" in boss.text(HOME)
    assert boss.get(f"{HOME}/companies/globex").status_code == 403
    assert boss.get(f"{HOME}/users").status_code == 403
    assert "carl is a member" in admin.post(f"{path}/members", user_id="carl", by_htmx=True).text
    assert "Remove carl" in boss.text(path)
    removed = boss.post(f"{path}/members/remove", user_id="carl", by_htmx=True).text
    assert "carl is no longer a member" in removed and "Remove carl" not in removed


def test_a_key_is_shown_once_then_revoked(gateway: Any, admin: Any) -> None:
    made = admin.post(f"{HOME}/keys", name=ATTACK, role="user", company_id="", user_id="", days="",
                      by_htmx=True).text  # fmt: skip
    assert "<script>alert" not in made and "never shown again" in made
    found = re.search(r"<pre[^>]*>(tri_[\w-]+)</pre>", made)
    assert found is not None
    assert gateway.call("GET", "/api/me", key=found[1])["role"] == "user"
    assert found[1] not in admin.text(f"{HOME}/keys")
    row = next(row for row in gateway.call("GET", "/api/keys")["keys"] if row["name"] == ATTACK)
    path = f"{HOME}/keys/{row['key_id']}"
    assert "Let it read what people wrote" in admin.text(path)
    assert "now read what people wrote" in admin.post(f"{path}/content", allowed="yes").text
    assert gateway.call("GET", "/api/me", key=found[1])["scopes"] == ["content"]
    assert "Key revoked" in admin.post(f"{path}/revoke", by_htmx=True).text
    assert gateway.call("GET", "/api/me", key=found[1]) == 401


def test_a_companys_admin_creates_keys_of_her_company_only(gateway: Any, sign_in: Any) -> None:
    boss = sign_in(company(gateway, "initech"))
    shown = boss.text(f"{HOME}/keys")
    assert "admin of everything" not in shown and "first admin" not in shown
    made = boss.post(f"{HOME}/keys", name="app", role="user", company_id="initech", user_id="")
    assert "never shown again" in made.text
    refused = boss.post(f"{HOME}/keys", name="app", role="admin", company_id="initech", user_id="")
    assert refused.status_code == 422 and "only an admin makes admin keys" in refused.text
    key = next(
        row for row in gateway.call("GET", "/api/keys")["keys"] if row["name"] == "first admin"
    )
    assert boss.get(f"{HOME}/keys/{key['key_id']}").status_code == 404


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_a_company_gets_a_user_a_key_and_a_budget_by_keyboard(
    gateway: Any, open_console: Callable[..., Any], width: int, theme: str
) -> None:
    name = f"web{width}"
    page = open_console(HOME, width=width, height=800, color_scheme=theme)
    page.get_by_label("Company id").fill(name)
    page.get_by_label("Name", exact=True).fill("Web & Co")
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_text(f"Company {name} added").wait_for()
    for tab, act, heading in (
        ("Users", "Add user", "Add a user"), ("Keys", "Create key", "Create a key"),
        ("Budgets", "Set budget", "Set a budget"), ("Companies", "Add company", "Add a company"),
    ):  # fmt: skip
        page.get_by_role("navigation", name="People").get_by_role("link", name=tab).press("Enter")
        page.get_by_role("heading", name=heading).wait_for()
        assert page.get_by_role("button", name=act).is_visible()
        fits(page)
        screenshot(page, f"console-people-{tab.lower()}-{width}-{theme}")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{tab}: {found.generate_report()}"
    page.get_by_role("link", name="Web & Co").last.press("Enter")
    page.get_by_label("Facts").fill("Leave policy: 25 days")
    page.get_by_role("button", name="Save company").press("Enter")
    page.get_by_text("Company saved").wait_for()
    fits(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
