"""Lessons and sweeps with real runs: predict, train, see, and go on to the Playground and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from browsing import screenshot, serving
from playwright.sync_api import expect

from triptych.cli.resolve import resolve
from triptych.config import load_config
from triptych.lm.runs.lessons import LESSONS, check, lesson
from triptych.lm.runs.store import RunStore
from triptych.lm.runs.sweep import runs_of, sweeps
from triptych.panels.composition import build_app

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1500)]

PATIENCE_MS = 900_000
TEXT = "\n\n".join(topics.values())[:20_000]
ONE_OF_EACH_LEVEL = ("first-curve", "batch-or-steps", "cooldown")


@pytest.fixture
def panels(own_home: Path) -> Iterator[str]:
    with serving(build_app(load_config(), resolve, "http://127.0.0.1:9", "")) as address:
        yield f"{address}/studio/"


def test_the_address_names_the_lesson_and_leads_back_to_it(open_page: Any, panels: str) -> None:
    one = lesson("cooldown")
    page = open_page(panels)
    page.get_by_role("tab", name="Learn").click()
    page.get_by_label(f"{one.level}: {one.title}").click()
    page.wait_for_function("location.search.includes('lesson=cooldown')")
    page.get_by_text(one.question).wait_for()
    page.reload()
    page.get_by_role("tab", name="Learn", selected=True).wait_for()
    page.get_by_text(one.question).wait_for()
    expect(page.get_by_label(f"{one.level}: {one.title}")).to_be_checked()
    outcome = page.locator("#lesson")
    outcome.get_by_text("This experiment is 2 short runs").wait_for()

    # Nobody can see the page now, so it asks for nothing; seen again, it asks for what is new.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, value: true})")
    for _ in range(20):
        asked.clear()
        page.wait_for_timeout(1500)
        if not asked:
            break
    assert asked == []
    with page.expect_response(re.compile("/lessons/cooldown/places")) as answered:
        page.evaluate("delete document.hidden")
    assert answered.value.json() == {"places": {}}
    page.close()


@pytest.mark.prove
@pytest.mark.parametrize("name", ONE_OF_EACH_LEVEL)
def test_a_lesson_asks_first_and_says_what_the_runs_showed(
    open_page: Any, panels: str, own_home: Path, name: str
) -> None:
    one = lesson(name)
    assert {lesson(n).level for n in ONE_OF_EACH_LEVEL} == {known.level for known in LESSONS}
    page = open_page(panels)
    page.get_by_role("tab", name="Learn").click()
    page.get_by_label(f"{one.level}: {one.title}").click()
    page.get_by_role("button", name="Start the experiment").click()
    page.get_by_text("say first what you expect").wait_for()
    page.get_by_label(one.answers[1]).click()
    page.get_by_role("button", name="Start the experiment").click()
    page.locator("#lesson h3").wait_for(timeout=PATIENCE_MS)
    store = RunStore(own_home / "runs")
    verdict = check(one, runs_of(store, sweeps(store)[0]))
    assert verdict is not None
    expect(page.locator("#lesson h3")).to_have_text(one.answers[verdict[0]])
    said = page.locator("#lesson").inner_text()
    assert "You predicted it" in said or f"You said “{one.answers[1]}”" in said
    assert verdict[1] in said
    screenshot(page, f"studio-lesson-{name}")

    page.get_by_role("link", name="Read what they write, in the Playground").click()
    page.get_by_role("button", name="Generate", exact=True).click()
    page.wait_for_function(
        "document.querySelectorAll('.answer[data-done=true]').length > 1", timeout=PATIENCE_MS
    )
    screenshot(page, f"studio-lesson-{name}-playground")
    page.go_back()
    expect(page).to_have_url(re.compile(f"lesson={name}"))
    page.locator("#lesson h3").wait_for()
    page.get_by_role("tab", name="Learn", selected=True).wait_for()
    page.close()


@pytest.mark.prove
def test_seeds_started_as_one_are_shown_as_a_mean_with_an_interval(
    open_page: Any, panels: str
) -> None:
    page = open_page(panels)
    page.get_by_label("Paste text").fill(TEXT)
    page.get_by_role("button", name="Advanced: every other setting").click()
    page.get_by_label("Any other setting, one per line").fill(
        "train.steps=10\ntrain.context_length=64\ntrain.batch_tokens=256\ntrain.threads=1\n"
        "train.compile=off\ntrain.precision=float32"
    )
    page.get_by_role("button", name="Sweep (several runs)").click()
    page.get_by_label("What to vary, one setting per line").fill("train.seed=1,2,3")
    page.get_by_role("button", name="Start training").click()
    page.locator("#sweep").get_by_text("3 of 3").wait_for(timeout=PATIENCE_MS)
    expect(page.locator("#sweep")).to_contain_text("±")
    screenshot(page, "studio-sweep")
    page.close()
