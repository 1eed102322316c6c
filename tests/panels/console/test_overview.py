"""The Overview: figures, charts with gaps, and the cause of failures in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

from triptych.panels.console.overview import view

HOUR = view.RANGES["hour"]
OFF = {"provider.hf_spaces": "off"}
FAILED = [{"error_code": "no_provider_available", "tier_asked": "base", "flags": OFF}] * 3
TOTALS = [{"requests": 4, "failures": 3, "fallbacks": 0}]


def test_the_cause_of_failed_requests_is_named_with_the_page_that_mends_it() -> None:
    (found,) = view.failures(TOTALS, FAILED, {"hf_spaces"})
    assert found.words == "3 of 4 requests failed: Spaces are switched off"
    assert found.href == "/console/switches"


def test_a_failure_without_a_switch_behind_it_leads_to_its_requests() -> None:
    (found,) = view.failures(TOTALS, [{"error_code": "budget_spent"}], {"hf_spaces"})
    assert found.words == "3 of 4 requests failed: a budget was used up"
    assert found.href == "/console/requests?outcome=failed&error_code=budget_spent"


def test_a_time_without_requests_is_a_gap_and_a_share_that_went_to_others_is_zero() -> None:
    row = {"requests": 2, "failures": 0, "latency_mean_s": 0.1, "overhead_mean_s": 0.01,
           "input_tokens": 1, "output_tokens": 1, "cost_microusd": 0}  # fmt: skip
    whole = [row | {"bucket": 0}, row | {"bucket": 120}]
    local = [{"bucket": 0, "provider": "local", "requests": 2}]
    drawn = view.charts(whole, [], local, HOUR, 0.0, 180.0)
    requests, latency, share = drawn[0], drawn[1], drawn[5]
    assert requests.curves[0].y == (2.0, 0.0, 2.0)
    assert latency.curves[0].y == (100.0, None, 100.0)
    assert share.curves[0].y == (100.0, None, 0.0)


def test_a_visitor_without_a_session_signs_in_first_and_comes_back(
    sign_in: Callable[[str], Any], console_app: Any
) -> None:
    answer = sign_in("").get("/console/")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?then=/console/"


def test_a_user_without_an_admins_role_is_refused(gateway: Any, sign_in: Any) -> None:
    made = gateway.call("POST", "/api/keys", {"name": "member", "role": "user"})
    assert sign_in(made["key"]).get("/console/").status_code == 403


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_the_overview_fits_is_accessible_and_its_labels_can_be_read(
    open_console: Callable[..., Any], gateway: Any, width: int, theme: str
) -> None:
    gateway.chat("hello")
    page = open_console(width=width, height=800, color_scheme=theme)
    page.wait_for_selector("dl.figures")
    page.wait_for_selector(".uplot canvas")
    fits(page)
    screenshot(page, f"console-overview-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


SHIFTS = """() => { window.shifted = 0; new PerformanceObserver(list => {
  for (const entry of list.getEntries()) window.shifted += entry.value;
}).observe({type: 'layout-shift'}); }"""
SMALL = """() => [...document.querySelectorAll(
    'nav.menu a, .tabs a, main button, main select, summary')]
  .filter(each => each.checkVisibility() && each.getBoundingClientRect().height < 44)
  .map(each => each.outerHTML.slice(0, 90))"""
UNFOCUSED = """() => { const style = getComputedStyle(document.activeElement);
  return style.outlineStyle === 'none' && document.activeElement !== document.body
    ? document.activeElement.outerHTML.slice(0, 90) : ''; }"""


@pytest.mark.browser
def test_live_updates_shift_nothing_targets_are_large_on_touch_and_focus_is_seen(
    open_console: Callable[..., Any], gateway: Any
) -> None:
    gateway.chat("hello")
    page = open_console(width=360, height=800, has_touch=True, is_mobile=True)
    page.wait_for_selector(".uplot canvas")
    assert page.evaluate(SMALL) == []
    page.evaluate(SHIFTS)
    with page.expect_response(lambda answer: "/console/chart/" in answer.url):
        pass
    page.wait_for_timeout(300)
    assert page.evaluate("window.shifted") < 0.01
    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate(UNFOCUSED) == ""
