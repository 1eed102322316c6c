"""A stranger starts a run in the browser, leaves, comes back, stops, resumes: all for real."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from browsing import screenshot, serving

from triptych.config import load_config
from triptych.lm.runs.store import RunStore
from triptych.panels.studio.app import build_app

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

# A person's pasted pages: the help topics that every Python brings.
TEXT = "\n\n".join(topics.values())[:60_000]


def wait(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def shown_step(page: Any) -> int:
    found = re.search(r"([\d,]+) of", page.locator("#run-head .figures").inner_text())
    return int(found.group(1).replace(",", "")) if found else 0


def test_a_run_started_on_the_page_outlives_the_page(open_page, own_home: Path) -> None:
    store = RunStore(own_home / "runs")
    with serving(build_app(load_config(), store)) as address:
        page = open_page(address)
        page.get_by_label("Paste text").fill(TEXT)
        page.get_by_label("Name").first.fill("ships")
        page.get_by_role("button", name="Advanced: every other setting").click()
        page.get_by_label("Any other setting, one per line").fill(
            "train.steps=4000\nmodel.size=nano\ntrain.context_length=64\ntrain.batch_tokens=256\n"
            "train.threads=1\ntrain.compile=off\ntrain.precision=float32\ntrain.eval_every=200\n"
            "train.sample_every=500"
        )
        page.get_by_role("button", name="Look at the text").click()
        page.locator("#corpus .sample").first.wait_for()
        page.get_by_role("button", name="Estimate time, memory and disk").click()
        page.locator("#estimate").wait_for()
        screenshot(page, "studio-new")
        page.get_by_role("button", name="Start training").click()
        page.locator("#run-head .state.running").wait_for()
        page.wait_for_function("document.querySelectorAll('svg.chart polyline').length > 0")
        first = shown_step(page)
        wait(lambda: shown_step(page) > first)
        assert "run=" in page.url
        address_of_run = page.url
        page.close()

        run_id = store.list()[0].run_id
        before = store.get(run_id).step
        wait(lambda: store.get(run_id).step > before)

        page = open_page(address_of_run)
        page.locator("#run-head .state.running").wait_for()
        assert shown_step(page) > first
        screenshot(page, "studio-watch")
        page.get_by_role("button", name="Stop (saves)").click()
        page.locator("#run-head .state.paused").wait_for()
        rested = store.get(run_id).step
        assert store.get(run_id).newest_checkpoint == f"step-{rested:08d}"
        page.get_by_role("button", name="Resume").click()
        page.locator("#run-head .state.running").wait_for()
        wait(lambda: store.get(run_id).step > rested)
        page.get_by_role("button", name="End for good").click()
        page.locator("#run-head .state.cancelled").wait_for()
        page.close()


def test_too_little_text_is_refused_in_words_and_the_input_stays(open_page, own_home: Path) -> None:
    store = RunStore(own_home / "runs")
    with serving(build_app(load_config(), store)) as address:
        page = open_page(address, width=360)
        page.get_by_label("Paste text").fill("too short")
        page.get_by_role("button", name="Start training").click()
        page.get_by_text("are too few to learn from").wait_for()
        assert page.get_by_label("Paste text").input_value() == "too short"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert store.list() == []
        page.close()
