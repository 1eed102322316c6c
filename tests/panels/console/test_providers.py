"""The providers: add, test, change in conflict, remove; secrets that are never shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

from triptych.panels.console.providers import view

PAGE = "/console/providers"
NEW = {
    "name": "third", "provider": "openai", "address": "http://127.0.0.1:9/v1", "tiers": "base",
    "model": "m", "others": "slow = m2", "is_active": "yes",
}  # fmt: skip


def test_a_provider_is_added_tested_at_once_changed_and_removed(gateway: Any, admin: Any) -> None:
    text = admin.post(PAGE, **NEW).text
    assert "third saved" in text and "the provider does not answer" in text
    (row,) = (
        r for r in gateway.call("GET", "/admin/upstreams")["upstreams"] if r["name"] == "third"
    )
    assert row["models"] == {"base": "m", "slow": "m2"}
    form = view.typed(row)
    assert (form["tiers"], form["model"], form["others"]) == (["base"], "m", "slow = m2")
    assert "Change third" in admin.text(f"{PAGE}?name=third")
    changed = {**NEW, "version": row["version"], "model": "other"}
    assert "third saved" in admin.post(PAGE, **changed).text
    refused = admin.post(PAGE, **changed)
    assert "Another admin changed this meanwhile" in refused.text, "the version that was read"
    assert refused.status_code == 422
    assert "third removed" in admin.post(f"{PAGE}/remove", name="third").text


def test_errors_stand_beside_their_field(admin: Any) -> None:
    text = admin.post(PAGE, **{**NEW, "name": "not good", "address": ""}).text
    assert 'id="provider-name-error"' in text and 'id="provider-address-error"' in text
    text = admin.post(PAGE, **{**NEW, "name": "x", "tiers": [], "others": ""}).text
    assert "choose a tier that it serves" in text
    text = admin.post(PAGE, **{**NEW, "name": "x", "others": "= m"}).text
    assert "write each line as name = model" in text


def test_each_provider_is_tested_with_a_real_request_and_the_result_is_beside_it(
    admin: Any,
) -> None:
    text = admin.post(f"{PAGE}/test-all", by_htmx=True).text
    assert "answers in" in text and "the provider does not answer" in text
    assert "set by the configuration file" in text


def test_i1_a_secret_is_written_trimmed_and_never_shown(gateway: Any, admin: Any) -> None:
    text = admin.post(f"{PAGE}/secret", name="OWN_TOKEN", value="  hf_neverseen1234 ").text
    assert "Secret OWN_TOKEN saved, ending with" in text
    assert "neverseen" not in text and "neverseen" not in admin.text(PAGE)
    (row,) = gateway.call("GET", "/admin/secrets")["secrets"]
    assert "hf_neverseen1234".endswith(row["hint"].lstrip("…."))
    assert '<option value="OWN_TOKEN">' in admin.text(PAGE), "it can be picked by a provider"
    assert "out of use with the same act" in admin.text(PAGE)
    assert "Secret OWN_TOKEN removed" in admin.post(f"{PAGE}/secret/remove", name="OWN_TOKEN").text
    again = admin.post(f"{PAGE}/secret/remove", name="OWN_TOKEN").text
    assert 'role="alert"' in again and "there is no secret" in again


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_a_provider_is_added_by_keyboard(
    open_console: Callable[..., Any], width: int, theme: str
) -> None:
    page = open_console(PAGE, width=width, height=800, color_scheme=theme)
    page.locator("summary", has_text="Add a provider").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name", exact=True).fill("typed")
    page.get_by_label("Kind").select_option("openai")
    page.get_by_label("Address").fill("http://127.0.0.1:9/v1")
    page.get_by_label("Address").press("Enter")
    page.get_by_text("typed saved").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("row", name="typed").get_by_role("button", name="Remove").click()
    page.get_by_text("typed removed").wait_for()
    page.get_by_role("button", name="Test all providers").click()
    page.get_by_text("the provider does not answer").wait_for()
    fits(page)
    screenshot(page, f"console-providers-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
