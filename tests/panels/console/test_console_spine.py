"""An administrator signs in, switches the provider and sees it in the requests: for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import screenshot, serving

from triptych.panels.console.app import build_app
from triptych.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

CONFIG = """
[gateway]
allow_private_addresses = true
[gateway.upstreams.first]
provider = "scripted"
models = { base = "echo" }
[gateway.upstreams.second]
provider = "local"
address = "http://127.0.0.1:9"
models = { base = "nobody" }
"""


@pytest.fixture
def gateway(own_home: Path, tmp_path: Path) -> Iterator[str]:
    """Run a real gateway with a scripted upstream and one that is away."""
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)
    port = free_port()
    command = [sys.executable, "-m", "triptych", "gateway"]
    serve = [*command, "serve", "--config", str(file), "--set", f"gateway.port={port}"]
    process = subprocess.Popen(serve, env=dict(os.environ), stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
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
        process.wait(timeout=30)


def ask(address: str, key: str) -> int:
    body = {"model": "base", "messages": [{"role": "user", "content": "<script>alert(1)</script>"}]}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_an_admin_steers_and_sees_what_happened(open_page, gateway: str, own_home: Path) -> None:
    key = (own_home / "gateway" / "admin-key").read_text().strip()
    with serving(build_app(gateway)) as address:
        page = open_page(address)
        page.get_by_label("Admin key").fill("tri_wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Admin key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("tab", name="Providers and tiers").click()
        page.get_by_text("Asked in this order").wait_for()
        page.get_by_label("local", exact=True).click()
        page.get_by_role("button", name="Apply", exact=True).click()
        page.get_by_text("so nothing would have gone elsewhere").wait_for()
        page.get_by_role("button", name="Apply these changes").click()
        page.get_by_role("status").get_by_text("provider = local").wait_for()
        assert ask(gateway, key) in (200, 502, 503)
        page.get_by_role("tab", name="Requests").click()
        page.get_by_role("button", name="Look again").click()
        row = page.locator("button.pick:visible")
        row.first.wait_for()
        assert row.count() == 1
        row.click()
        page.locator(".waterfall").wait_for()
        assert key not in page.content()
        screenshot(page, "console-requests")
