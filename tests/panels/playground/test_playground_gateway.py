"""Tiers of a real gateway beside a checkpoint: what is said of them arrives there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import screenshot, serving
from playwright.sync_api import expect

from triptych.cli.resolve import resolve
from triptych.config import load_config
from triptych.lm.runs.store import RunStore
from triptych.panels.playground.app import build_app
from triptych.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

CONFIG = """
[gateway]
allow_private_addresses = true
[gateway.upstreams.script]
provider = "scripted"
models = { base = "say-hello-<i>world</i>", company = "filler-5" }
"""


@pytest.fixture
def gateway(runs: RunStore, own_home: Path, tmp_path: Path) -> Iterator[str]:
    """Run a real gateway with a scripted upstream, in the home of the page."""
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)
    port = free_port()
    serve = ["gateway", "serve", "--config", str(file), "--set", f"gateway.port={port}"]
    # A rehearsal's answers are shown only where somebody wants them.
    flags = ["gateway", "flags", "provider.scripted=on", "real_ai_only=off"]
    subprocess.run([sys.executable, "-m", "triptych", *flags], check=True, timeout=120)
    process = subprocess.Popen(
        [sys.executable, "-m", "triptych", *serve], env=dict(os.environ), stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/ready", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def ask(address: str, path: str, home: Path) -> Any:
    key = (home / "gateway" / "admin-key").read_text().strip()
    request = urllib.request.Request(address + path, headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.prove
def test_a_vote_a_correction_and_a_comment_arrive_under_the_gateways_request(
    open_page: Any, gateway: str, own_home: Path
) -> None:
    link = json.dumps([["gateway:base", "topics/step-00000040"], "Say ", 0.8, 0, 1, 0, 1, 12, 1])
    config = load_config(None, ["generate.threads=1"])
    with serving(build_app(config, resolve, gateway=gateway)) as address:
        page = open_page(f"{address}/?c={link}")
        page.get_by_text("gateway · base").first.wait_for()
        page.get_by_text("topics · step 40").first.wait_for()
        time.sleep(1)
        assert page.locator(".answer").count() == 0, "a link asks nothing of a gateway by itself"
        page.get_by_role("button", name="Generate", exact=True).click()
        page.locator(".voting h3").first.wait_for()
        shown = page.locator(".answer[data-done=true]").first
        for words in ("hello <i>world</i>", "tier base", "scripted"):
            expect(shown).to_contain_text(words)
        page.get_by_role("button", name="A is better").click()
        page.get_by_text("Also stored as feedback.").wait_for()
        page.get_by_role("button", name="Say more").click()
        page.get_by_label("A", exact=True).check()
        page.get_by_label("Comment").fill("too short")
        page.get_by_label("A better answer").fill("hello everybody")
        page.get_by_role("button", name="Send").click()
        # The page says the same of the vote and of what was sent after it: the gateway tells.
        kinds = {"preference", "comment", "correction"}
        deadline = time.monotonic() + 60
        while True:
            rows = ask(gateway, "/api/feedback", own_home)["feedback"]
            found = {row["kind"]: row for row in rows}
            if set(found) >= kinds or time.monotonic() > deadline:
                break
            page.wait_for_timeout(200)
        page.get_by_text("Vote saved: voted for gateway · base").wait_for()
        screenshot(page, "playground-gateway")

    assert set(found) == kinds, found
    assert found["correction"]["value"] == "hello everybody"
    assert found["preference"]["value"]["chosen"] == "hello <i>world</i>"
    (request_id,) = {row["request_id"] for row in found.values()}
    request = ask(gateway, f"/api/requests/{request_id}", own_home)
    assert request["feature"] == "playground", request
    kept = (own_home / "playground" / "votes.jsonl").read_text().splitlines()
    assert json.loads(kept[-1])["answers"][0]["request_id"] == request_id
    assert (own_home / "gateway" / "admin-key").read_text().strip() not in "".join(kept)
