"""The switches: preview, apply, undo, two admins in conflict, a share, exceptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

from triptych.panels.console.switches import view

PAGE = "/console/switches"
DEFAULTS = {"provider": "auto", "order": "configured", "fallback": True, "cache": True}


@pytest.fixture(autouse=True)
def as_at_first(gateway: Any) -> Iterator[None]:
    """Leave the switches of the shared gateway as they were."""
    yield
    for key, value in DEFAULTS.items():
        gateway.call("PUT", f"/admin/flags/{key}", {"value": value})


def form_of(text: str) -> dict[str, Any]:
    """Return what a browser would send of the page's form of switches."""
    on = re.findall(r'name="on" value="([\w.]+)" checked', text)
    seen = re.search(r'name="seen" value="([^"]*)"', text)
    assert seen is not None
    return {"on": on, "seen": unescape(seen[1]), "provider": "auto", "order": "configured"}


def without(form: dict[str, Any], key: str) -> dict[str, Any]:
    return form | {"on": [one for one in form["on"] if one != key]}


def flag(gateway: Any, key: str) -> view.Value:
    (row,) = (row for row in gateway.call("GET", "/admin/flags")["flags"] if row["key"] == key)
    return view.value_of(row["definition"])


def test_a_change_is_previewed_applied_and_undone(gateway: Any, admin: Any) -> None:
    form = without(form_of(admin.text(PAGE)), "fallback")
    foreseen = admin.post(f"{PAGE}/effects", by_htmx=True, **form).text
    assert "Use the next provider when one fails off" in foreseen
    assert "Apply these changes" in foreseen and "<html" not in foreseen
    assert flag(gateway, "fallback") is True, "a preview changes nothing"
    applied = admin.post(PAGE, **form).text
    assert "Applied: Use the next provider when one fails off" in applied
    assert flag(gateway, "fallback") is False
    undo = re.search(r'name="sequences" value="([\d ]+)"', applied)
    assert undo is not None
    assert "Undone" in admin.post(f"{PAGE}/revert", sequences=undo[1]).text
    assert flag(gateway, "fallback") is True


def test_two_admins_meet_in_a_conflict_and_lose_nothing(gateway: Any, admin: Any) -> None:
    one = other = form_of(admin.text(PAGE))
    admin.post(PAGE, **without(one, "fallback"))
    refused = admin.post(PAGE, **without(other, "fallback")).text
    assert "Another admin changed this meanwhile" in refused
    assert 'value="fallback" checked' not in refused, "what was chosen is kept"
    # Another switch is no conflict, and does not undo what the first admin did.
    admin.post(PAGE, **without(other, "cache"))
    assert (flag(gateway, "fallback"), flag(gateway, "cache")) == (False, False)


def test_a_page_without_a_change_has_nothing_to_revert_and_offers_no_revert() -> None:
    entry = {"sequence": 1, "created_at": 1.0, "actor": "a", "action": "flags.set",
             "before": {}, "after": {"cache": {"defaultVariant": "off"}}}  # fmt: skip
    flags = [{"key": "cache", "definition": {"defaultVariant": "on"}}]
    entry["after"]["cache"]["variants"] = {"on": True, "off": False}  # type: ignore[index]
    (changed_again,) = view.history([entry], flags)
    assert not changed_again.revert
    (still,) = view.history([entry], [{"key": "cache", "definition": entry["after"]["cache"]}])  # type: ignore[index]
    assert still.revert


def test_a_switch_is_on_for_a_share_of_companies_and_the_page_says_so(
    gateway: Any, admin: Any
) -> None:
    seen = form_of(admin.text(PAGE))["seen"]
    form = {"key": "cache", "percentage": "10", "by": "company", "seen": seen}
    foreseen = admin.post(f"{PAGE}/share/effects", by_htmx=True, **form).text
    assert "Cache answers for 10 %" in foreseen
    text = admin.post(f"{PAGE}/share", **form).text
    assert "Cache answers is on for 10 % of companies" in text
    assert "(on for 10 % of companies)" in text
    wrong = admin.post(f"{PAGE}/share", **(form | {"percentage": "101"}))
    assert "less than or equal to 100" in wrong.text


def test_an_exception_is_picked_from_a_list_and_removed(gateway: Any, admin: Any) -> None:
    gateway.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme <b>"})
    assert "company Acme &lt;b&gt;" in admin.text(PAGE)
    made = {"key": "tier.company", "subject": "company:acme"}
    text = admin.post(f"{PAGE}/exception", value="on", **made).text
    assert "Company tier is on for company acme" in text
    text = admin.post(f"{PAGE}/exception/remove", **made).text
    assert "as for all others" in text and "No exception" in text


def test_effects_name_what_the_last_hour_would_have_done() -> None:
    moves = [{"from": "base at openai", "to": "base at local", "requests": 12}]
    found = {"requests": 100, "elsewhere": 12, "refused": 2, "moves": moves}
    shown = view.effects(view.named({"provider.openai": False, "provider": "local"}), found)
    assert shown.changes == (
        "OpenAI-compatible services off, First provider: Models on this machine"
    )
    assert shown.words == "12% of the last hour's 100 requests would have gone elsewhere."
    assert shown.refused == "2 would have been refused."
    assert shown.moves == ("12: base at openai → base at local",)


def test_an_admin_of_a_company_neither_sees_nor_sets_switches(gateway: Any, sign_in: Any) -> None:
    gateway.call("POST", "/admin/companies", {"company_id": "own", "name": "Own"})
    body = {"name": "own", "role": "company_admin", "company_id": "own"}
    reader = sign_in(gateway.call("POST", "/api/keys", body)["key"])
    assert "Switches" not in reader.text("/console/")
    assert reader.get(PAGE).status_code == 403
    assert reader.post(PAGE, provider="local").status_code == 403


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (360, "light")])
def test_a_switch_is_previewed_applied_and_undone_by_keyboard(
    open_console: Callable[..., Any], width: int, theme: str
) -> None:
    page = open_console(PAGE, width=width, height=800, color_scheme=theme)
    switch = page.get_by_label("Cache answers")
    switch.focus()
    page.keyboard.press("Space")
    page.get_by_text("Cache answers off.").wait_for()
    page.get_by_role("button", name="Apply these changes").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Applied: Cache answers off").wait_for()
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Undone").wait_for()
    assert switch.is_checked()
    switch.uncheck()
    page.get_by_text("Cache answers off.").wait_for()
    fits(page)
    screenshot(page, f"console-switches-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
