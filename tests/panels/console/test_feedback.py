"""Feedback: listed with its author, shown beside its answer, exported for training by consent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot

ATTACK = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'


@pytest.fixture
def corrected(gateway: Any) -> str:
    """Return the key of a user whose corrected answer is kept, with a company that consented."""
    gateway.call("PUT", "/admin/flags/provider.scripted", {"value": True})
    gateway.call("PUT", "/admin/flags/real_ai_only", {"value": False})
    gateway.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme"})
    gateway.call("POST", "/admin/users", {"user_id": "ann", "companies": ["acme"]})
    body = {"purpose": "improve", "granted": True, "company_id": "acme"}
    gateway.call("PUT", "/api/consent", body)
    made = {"name": "ann's", "kind": "user", "user_id": "ann", "company_id": "acme"}
    key = str(gateway.call("POST", "/api/keys", made)["key"])
    gateway.chat("How many days of leave?", key)
    rows: list[dict[str, Any]] = []
    while not rows:
        rows = gateway.call("GET", "/api/requests?user_id=ann&limit=1")["requests"]
    about = rows[0]["request_id"]
    feedback = {"kind": "correction", "value": f"25 days {ATTACK}", "request_id": about}
    given = gateway.call("POST", "/api/feedback", feedback, key)
    assert given["version"] == 1
    return key


def test_a_correction_is_listed_as_text_and_shown_beside_its_answer(
    corrected: str, admin: Any
) -> None:
    text = admin.text("/console/feedback?kind=correction&company_id=acme")
    assert "corrected answer" in text and "ann" in text
    assert "answer was edited (preference)" in text
    assert "<script>alert" not in text and "<img src=x" not in text
    href = re.search(r'href="(/console/feedback/fb_[^"]+)"', text)
    assert href is not None
    path, _, query = href[1].replace("&amp;", "&").partition("?")
    shown = admin.text(f"{path}?{query}")
    assert "25 days &lt;script&gt;" in shown and "Show what was written" in shown
    assert "may not read" in admin.post(f"{path}/content?{query}", by_htmx=True).text
    read = admin.post(f"{path}/allow?{query}", by_htmx=True).text
    assert "How many days of leave?" in read
    assert admin.get(f"/console/feedback/absent?{query}").status_code == 404


def test_training_examples_are_exported_and_a_company_without_any_is_told_so(
    corrected: str, gateway: Any, admin: Any
) -> None:
    gateway.call("POST", "/admin/companies", {"company_id": "other", "name": "Other"})
    got = admin.get("/console/feedback/export?company_id=acme")
    assert "attachment" in got.headers["content-disposition"]
    assert "25 days" in json.dumps(json.loads(got.text.splitlines()[0]))
    none = admin.get("/console/feedback/export?company_id=other")
    assert "No training example yet" in none.text and "content-disposition" not in none.headers


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (360, "light")])
def test_feedback_is_read_by_keyboard_at_both_sizes(
    corrected: str, open_console: Callable[..., Any], width: int, theme: str
) -> None:
    page = open_console("/console/feedback", width=width, height=800, color_scheme=theme)
    page.get_by_label("Kind").select_option("correction")
    page.locator("#feedback tr.link a").first.wait_for()
    fits(page)
    screenshot(page, f"console-feedback-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator("#feedback tr.link a").first.press("Enter")
    page.get_by_role("heading", name="What it is about").wait_for()
    page.locator("#kept button").press("Enter")
    page.locator("#kept .turns, #kept [role=alert]").first.wait_for()
    fits(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
