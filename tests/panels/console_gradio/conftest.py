"""A real gateway with a scripted upstream, for the pages of the Console."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from triptych.processes import free_port

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
        process.wait(timeout=120)


@pytest.fixture
def ask() -> Callable[[str, str], int]:
    """Return a function that asks a question and tells the status."""
    return _ask


def _ask(address: str, key: str) -> int:
    body = {"model": "base", "messages": [{"role": "user", "content": "<script>alert(1)</script>"}]}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
