"""The Studio as a real Space of a hub: a visitor signs in, trains there and publishes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import httpx
import pytest
from browsing import screenshot

from triptych.config.environment import Secret
from triptych.hub.client import Hub
from triptych.hub.repository import Repo

pytestmark = [pytest.mark.browser, pytest.mark.prove, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
TEXT = "\n\n".join(topics.values())[:20_000]
TINY = (
    "train.steps=20\ntrain.threads=1\ntrain.compile=off\ntrain.precision=float32\n"
    "train.context_length=64\ntrain.batch_tokens=256"
)


def wait(condition: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.5)


def deployed(hub: Hub, space: Repo) -> str:
    """Push what `sync.toml` sends to the Studio's Space, and wait until it answers."""
    files = {
        path.relative_to(ROOT).as_posix(): path
        for path in (ROOT / "triptych").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {path.name: path for path in (ROOT / "triptych" / "spaces" / "studio").iterdir()}
    hub.create(space, sdk="gradio")
    hub.set_variable(space, "TRIPTYCH_RUNS__MAX_STEPS", "40")
    hub.set_secret(space, "HF_TOKEN", Secret("hf_token-of-the-owner"))
    hub.commit(space, files, "Add the Studio")
    wait(lambda: hub.space(space).stage == "RUNNING")
    address = hub.space(space).url
    assert address is not None
    return address


def test_a_visitor_signs_in_to_the_space_trains_there_and_publishes_as_themselves(
    open_page: Any, hub: tuple[str, str], hub_root: Path
) -> None:
    client = Hub(*hub)
    add = [sys.executable, "-m", "triptych", "hub", "user", "add", "ann", "--root", str(hub_root)]
    printed = subprocess.run(add, check=True, capture_output=True, text=True).stdout
    found = re.search(r"hf_\w+", printed)
    assert found, printed
    address = deployed(client, Repo("admin/studio", "space"))
    assert httpx.get(f"{address}/health").json()["status"] == "ok"
    assert httpx.get(f"{address}/api/runs").status_code == 401

    page = open_page(address)
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Access token").fill(found.group())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name=re.compile("Allow|Agree|Yes|Continue")).click()
    page.get_by_text("Signed in as").wait_for()
    page.get_by_label("Paste text").fill(TEXT)
    page.get_by_role("button", name="Advanced: every other setting").click()
    other = page.get_by_label("Any other setting, one per line")
    other.fill(TINY.replace("=20\n", "=4000\n"))
    page.get_by_role("button", name="Start training").click()
    page.get_by_text("a run may take 40 steps here").wait_for()
    other.fill(TINY)
    page.get_by_role("button", name="Start training").click()
    page.locator("#run-head .state.succeeded").wait_for(timeout=300_000)
    page.get_by_role("button", name="Evaluate, publish, deploy, go on").click()
    page.get_by_label("Repository").fill("ann/from-the-space")
    page.get_by_role("button", name="Publish its best checkpoint").click()
    page.get_by_text("Published:").wait_for(timeout=300_000)
    screenshot(page, "studio-space")
    mine = Hub(hub[0], found.group())
    assert "model.safetensors" in mine.tree(Repo("ann/from-the-space", "model"), "main")
    page.close()
