"""An administrator signs in, switches the provider and sees it in the requests: for real."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import screenshot, serving
from playwright.sync_api import expect

from triptych.panels.console_gradio.app import build_app

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


def test_an_admin_steers_and_sees_what_happened(
    open_page, gateway: str, ask, own_home: Path
) -> None:
    key = (own_home / "gateway" / "admin-key").read_text().strip()
    with serving(build_app(gateway)) as address:
        page = open_page(address)
        page.get_by_label("Admin key").fill("tri_wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Admin key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("tab", name="Providers and tiers").click()
        page.get_by_text("Order:").wait_for()
        page.get_by_label("local", exact=True).click()
        page.get_by_role("button", name="Apply", exact=True).click()
        page.get_by_text("so nothing would have gone elsewhere").wait_for()
        page.get_by_role("button", name="Apply these changes").click()
        page.get_by_role("status").get_by_text("provider = local").wait_for()
        assert ask(gateway, key) in (200, 502, 503)
        page.get_by_role("tab", name="Requests").click()
        row = page.locator("button.pick:visible")
        # A request is in the record soon after it was answered.
        while row.count() == 0:
            page.get_by_role("button", name="Refresh").click()
            page.wait_for_timeout(500)
        expect(row).to_have_count(1)
        row.click()
        page.locator(".waterfall").wait_for()
        assert key not in page.content()
        screenshot(page, "console-requests")
        page.close()  # it would ask on, every five seconds, when nobody serves it any more
