"""A stranger trains a model from pasted text, leaves, comes back, publishes it and lets it write.

Everything is real: the panels at one address, workers, a hub, and two browsers. Pictures of the
way are kept under `artefacts/`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import httpx
import pytest
from browsing import fits, screenshot, serving
from playwright.sync_api import expect
from programs import require

from triptych.cli.resolve import resolve
from triptych.config import load_config
from triptych.hub.client import Hub
from triptych.hub.repository import Repo
from triptych.lm.runs import control
from triptych.lm.runs.states import ENDED, RESUMABLE
from triptych.lm.runs.store import RunStore
from triptych.panels.composition import build_app
from triptych.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

# A person's pasted pages: the help topics that every Python brings.
TEXT = "\n\n".join(topics.values())[:20_000]
# What the machine would otherwise measure first; the settings of a run that does not end soon.
PLAIN = (
    "train.threads=1\ntrain.compile=off\ntrain.precision=float32\ntrain.steps=20000\n"
    "train.context_length=64\ntrain.batch_tokens=256\ntrain.eval_every=40\ntrain.sample_every=40"
)
SECONDS_AWAY = [2, pytest.param(60, marks=[pytest.mark.prove])]


def wait(condition: Callable[[], object], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def shown_step(page: Any) -> int:
    found = re.search(r"([\d,]+) of", page.locator("#run-head .figures").inner_text())
    return int(found.group(1).replace(",", "")) if found else 0


def wait_for_state(page: Any, state: str) -> None:
    page.locator(f"#run-head .state.{state}").wait_for(timeout=240_000)


def tab_to(page: Any, target: Any, most: int = 80) -> None:
    """Press the tabulator until something has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError("the keyboard does not reach it")


@pytest.fixture
def panels(own_home: Path, hub: tuple[str, str]) -> Iterator[str]:
    """Serve all panels at one address, as `triptych up` does."""
    app = build_app(load_config(), resolve, "http://127.0.0.1:9", hub[0])
    store = RunStore(own_home / "runs")
    with serving(app) as address:
        yield address
        for run in store.list():
            if run.state not in ENDED | RESUMABLE:
                control.cancel(store, run.run_id)  # a test that failed leaves no run behind
                wait(lambda run=run: store.get(run.run_id).state in ENDED)


@pytest.fixture
def other_browser(browser: Any) -> Iterator[Any]:
    """Start a second Chromium; what one browser keeps the other does not know."""
    started = browser.browser_type.launch(
        executable_path=require("chromium"),
        args=["--no-sandbox", "--disable-gpu"],
        timeout=120_000,
    )
    yield started
    started.close()


@pytest.mark.parametrize("seconds_away", SECONDS_AWAY)
def test_a_stranger_trains_leaves_returns_publishes_and_lets_the_model_write(
    open_page: Any, other_browser: Any, panels: str, hub: tuple[str, str], own_home: Path,
    seconds_away: int,
) -> None:  # fmt: skip
    store = RunStore(own_home / "runs")
    page = open_page(f"{panels}/studio/")
    page.get_by_label("Paste text").fill(TEXT)
    page.get_by_label("Name").first.fill("ships")
    if seconds_away < 60:  # the long form is the untouched form
        page.get_by_role("button", name="Advanced: every other setting").click()
        page.get_by_label("Any other setting, one per line").fill(PLAIN)
        page.get_by_role("button", name="Advanced: every other setting").click()
        page.get_by_role("button", name="Check text").click()
        page.locator("#corpus .sample").first.wait_for()
    page.get_by_role("button", name="Start training").click()
    wait_for_state(page, "running")
    page.wait_for_function(
        "[...document.querySelectorAll('svg.chart polyline')]"
        ".some(line => line.getAttribute('points').trim().split(' ').length > 1)"
    )
    first, address_of_run = shown_step(page), page.url
    assert "run=" in address_of_run
    page.close()

    time.sleep(seconds_away)
    run_id = store.list()[0].run_id
    before = store.get(run_id).step
    wait(lambda: store.get(run_id).step > before)

    page = open_page(address_of_run)
    wait_for_state(page, "running")
    wait(lambda: shown_step(page) > first)
    expect(page.get_by_role("button", name="Pause")).to_be_enabled()
    expect(page.get_by_role("button", name="Resume")).to_be_disabled()
    screenshot(page, "studio-watch")

    # Somebody on another device stops it; this page says so by itself.
    second = other_browser.new_context(viewport={"width": 360, "height": 740}).new_page()
    second.set_default_timeout(120_000)
    second.goto(address_of_run)
    wait_for_state(second, "running")
    fits(second)
    screenshot(second, "studio-watch-360")
    second.get_by_role("button", name="Pause").click()
    wait_for_state(second, "paused")
    wait_for_state(page, "paused")
    rested = store.get(run_id).step
    assert store.get(run_id).newest_checkpoint == f"step-{rested:08d}"
    page.get_by_role("button", name="Resume").click()
    wait_for_state(page, "running")
    wait_for_state(second, "running")
    wait(lambda: store.get(run_id).step > rested)
    page.get_by_role("button", name="Pause").click()
    wait_for_state(page, "paused")

    page.get_by_role("button", name="Evaluate, publish, deploy, go on").click()
    page.get_by_label("Repository").fill("admin/ships")
    page.get_by_role("button", name="Publish its best checkpoint").click()
    page.get_by_text("Published:").wait_for(timeout=240_000)
    screenshot(page, "studio-published")
    published = Hub(*hub).tree(Repo("admin/ships", "model"), "main")
    assert {"model.safetensors", "README.md", "tokenizer.json"} <= set(published)

    page.get_by_role("link", name="Open in the Playground").click()
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    page.get_by_text("ships · step").first.wait_for()
    page.get_by_role("button", name="Generate", exact=True).click()
    answer = page.locator(".answer[data-done=true] .text").first
    expect(answer).to_have_text(re.compile(r"(\S+\s+){3}\S"))
    screenshot(page, "studio-to-playground")
    page.get_by_role("link", name="Studio").click()
    page.get_by_label("Paste text").wait_for()
    page.close()


@pytest.mark.prove
def test_a_killed_web_process_costs_an_open_page_nothing(
    other_browser: Any, own_home: Path
) -> None:
    port, store = free_port(), RunStore(own_home / "runs")
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "triptych", "studio", "--port", str(port)]

    def serve() -> subprocess.Popen[bytes]:
        started = subprocess.Popen(command)
        wait(lambda: answers(f"{address}/health"))
        return started

    web = serve()
    try:
        page = other_browser.new_page()
        page.set_default_timeout(240_000)
        page.goto(address)
        page.get_by_label("Paste text").fill(TEXT)
        page.get_by_role("button", name="Advanced: every other setting").click()
        page.get_by_label("Any other setting, one per line").fill(PLAIN)
        page.get_by_role("button", name="Start training").click()
        wait_for_state(page, "running")
        web.kill()
        web.wait()
        run_id = store.list()[0].run_id
        alone = store.get(run_id).step
        wait(lambda: store.get(run_id).step > alone + 5)
        web = serve()
        # The page was not loaded again: it goes on by itself, and so do its buttons.
        wait(lambda: shown_step(page) > alone + 5, 240)
        page.get_by_role("button", name="Pause").click()
        wait_for_state(page, "paused")
        assert store.get(run_id).state == "paused"
    finally:
        web.terminate()
        web.wait()


def answers(address: str) -> bool:
    """Return whether somebody answers there."""
    try:
        return httpx.get(address, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_keyboard_alone_starts_and_ends_a_run(open_page: Any, panels: str) -> None:
    page = open_page(f"{panels}/studio/", color_scheme="dark")
    page.get_by_label("Paste text").wait_for()
    tab_to(page, page.get_by_label("Paste text"))
    page.keyboard.insert_text(TEXT[:6000])
    tab_to(page, page.get_by_role("button", name="Start training"))
    page.keyboard.press("Enter")
    page.locator("#run-head .state").wait_for()
    cancel = page.get_by_role("button", name="Cancel run")
    expect(cancel).to_be_enabled()
    tab_to(page, cancel)
    page.keyboard.press("Enter")
    wait_for_state(page, "cancelled")
    screenshot(page, "studio-dark")

    # Nobody can see the page now, so it asks for nothing; seen again, it asks at once.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, value: true})")

    def is_silent() -> bool:
        asked.clear()
        page.wait_for_timeout(1500)
        return asked == []

    wait(is_silent)
    with page.expect_request(re.compile("/places")):
        page.evaluate("delete document.hidden")
    page.close()


def test_too_little_text_is_refused_in_words_and_the_input_stays(
    open_page: Any, panels: str, own_home: Path
) -> None:
    page = open_page(f"{panels}/studio/", width=360)
    page.get_by_label("Paste text").fill("too short")
    page.get_by_role("button", name="Start training").click()
    page.get_by_text("are too few to learn from").wait_for()
    expect(page.get_by_label("Paste text")).to_have_value("too short")
    fits(page)
    assert RunStore(own_home / "runs").list() == []
    screenshot(page, "studio-refused-360")
    page.close()
