"""Patterns: what leaves is seen before agreeing, one click withdraws, a release has its audit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot
from company_documents import document

from triptych.learning.company.library import EVERYONE, Library

HOME = "/console/patterns"
SECRET = "Our biggest customer is Quokkaworks."
TEXT = (
    "# Handbook\n\n## Work\n\nEngineers are on call in a weekly turn. Each service has a runbook."
    " All staff work remotely.\n\n## Money\n\nSubmit expenses by the fifth.\n\n"
)
NAMES = tuple(f"firm{number}" for number in range(5))


def documents_of(gateway: Any, company: str, text: str = TEXT) -> str:
    """Add documents to a company; return the key of its admin."""
    gateway.call("POST", "/admin/companies", {"company_id": company, "name": company.title()})
    with Library(Path(gateway.home) / "companies") as library, library.create(company) as store:
        store.set_source("handbook", "handbook", [EVERYONE])
        store.apply("handbook", [document("handbook.md", f"{text}{SECRET}\n")], [])
    made = {"name": f"boss of {company}", "role": "company_admin", "company_id": company}
    return str(gateway.call("POST", "/api/keys", made)["key"])


def built(admin: Any) -> str:
    """Build a release and return the page once it is done."""
    admin.post(f"{HOME}/build", by_htmx=True)
    for _ in range(3000):
        text = admin.text(HOME)
        if "Building a release" not in text:
            return text
        time.sleep(0.05)
    raise AssertionError("the build did not end")


def test_a_company_sees_what_leaves_before_it_agrees_and_no_other_company(
    gateway: Any, sign_in: Any
) -> None:
    boss, other = (sign_in(documents_of(gateway, name)) for name in ("acme", "globex"))
    path = f"{HOME}/companies/acme"
    page = boss.text(path)
    assert "This company contributes nothing." in page and "Agree" in page
    preview = boss.text(f"{path}/preview")
    assert "engineers are on call in a weekly turn." in preview and "Quokkaworks" not in preview
    assert gateway.call("GET", "/api/consent?company_id=acme")["history"] == []
    assert not (Path(gateway.home) / "abstraction" / "register.json").exists()
    for part in ("", "/preview"):
        assert other.get(f"{path}{part}").status_code == 404
    for part in ("/agree", "/withdraw", "/strike", "/ask"):
        assert other.post(f"{path}{part}", question="x").status_code == 404
    assert other.post(f"{HOME}/build").status_code == 403
    assert other.get(HOME).headers["location"] == f"{HOME}/companies/globex"


def test_five_companies_agree_a_release_is_built_and_one_withdraws_with_one_click(
    gateway: Any, admin: Any, sign_in: Any
) -> None:
    bosses = {name: sign_in(documents_of(gateway, name)) for name in NAMES}
    early = built(admin)
    assert "No release" in early and "0 companies are counted, 5 are needed" in early
    for name, boss in bosses.items():
        agreed = boss.post(f"{HOME}/companies/{name}/agree", industry="", size="").text
        assert f"{name.title()} agreed" in agreed
    first, path = bosses["firm0"], f"{HOME}/companies/firm0"
    kept = ["on_call_rotation", "runbooks", "remote_work"]
    struck = first.post(f"{path}/strike", kept=kept, by_htmx=True).text
    assert "practices may not leave" in struck
    page = built(admin)
    assert "Release 1 is served: 5 companies counted" in page
    assert "The audit of this release passed." in page and "Planted secrets that came out" in page
    said = first.post(f"{path}/ask", question="How do others do on-call?", by_htmx=True).text
    assert "5 of 5 companies" in said and "Your company:" in said
    cards = first.text(path)
    assert "submit expenses" not in cards.lower()
    assert all(name.title() not in cards for name in NAMES[1:]) and "Quokkaworks" not in cards
    assert "releases 1 are removed" in cards
    gone = first.post(f"{path}/withdraw").text
    assert "Firm0 has withdrawn; releases 1 are removed" in gone
    assert "No release is served" in admin.text(HOME)
    history = gateway.call("GET", "/api/consent?company_id=firm0")["history"]
    assert [row["granted"] for row in sorted(history, key=lambda row: row["consent_id"])] == [
        True, False,
    ]  # fmt: skip
    folder = Path(gateway.home) / "abstraction"
    left = [one for one in folder.rglob("*") if one.is_file() and b"firm0" in one.read_bytes()]
    assert left == []


def test_an_admin_lets_every_company_ask_and_a_company_admin_may_not(
    gateway: Any, admin: Any, sign_in: Any
) -> None:
    boss = sign_in(documents_of(gateway, "hooli"))
    assert boss.post(f"{HOME}/access", for_all="yes").status_code == 403
    assert "Every company may ask from" in admin.post(f"{HOME}/access", for_all="yes").text
    assert "Only contributors" not in admin.text(HOME)
    assert "Only companies that contribute" in admin.post(f"{HOME}/access", for_all="no").text


def test_a_consent_that_is_withdrawn_under_privacy_reaches_the_patterns_at_once(
    gateway: Any, sign_in: Any
) -> None:
    boss = sign_in(documents_of(gateway, "initech"))
    boss.post(f"{HOME}/companies/initech/agree", industry="", size="")
    register = Path(gateway.home) / "abstraction" / "register.json"
    assert "initech" in register.read_text()
    sent = {"company": "initech", "purpose": "abstraction", "granted": "no"}
    boss.post("/console/privacy/consents", by_htmx=True, **sent)
    assert "initech" not in register.read_text()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_a_company_understands_and_agrees_by_keyboard(
    gateway: Any, open_console: Callable[..., Any], width: int, theme: str
) -> None:
    name = f"story{width}"
    documents_of(gateway, name)
    page = open_console(f"{HOME}/companies/{name}", width=width, height=800, color_scheme=theme)
    page.get_by_text("values are counted, and nothing else").wait_for()
    fits(page)
    screenshot(page, f"console-patterns-company-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("button", name="Agree").press("Enter")
    page.get_by_text(f"{name.title()} agreed").wait_for()
    page.get_by_role("button", name="Save what may leave").wait_for()
    fits(page)
    page.goto(page.url.split(HOME)[0] + HOME)
    page.get_by_role("heading", name="Who may ask").wait_for()
    fits(page)
    screenshot(page, f"console-patterns-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.once("dialog", lambda dialog: dialog.accept())
    page.goto(f"{page.url.split(HOME)[0]}{HOME}/companies/{name}")
    page.get_by_role("button", name="Withdraw").press("Enter")
    page.get_by_text(f"{name.title()} has withdrawn").wait_for()
