"""An embedded hub as a process of its own, for pages that publish and fetch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def hub_place(hub_root: Path) -> Iterator[tuple[str, str]]:
    """Run a hub; give its address and its administrator's token."""
    root = hub_root
    variables = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_ENDPOINT")}
    command = [sys.executable, "-m", "triptych", "hub", "serve", "--port", "0"]
    with (root.parent / "hub.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--root", str(root)],
            stdout=subprocess.PIPE, stderr=log, text=True, env=variables,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("hub: ").strip()
            assert address.startswith("http"), Path(log.name).read_text()
            deadline = time.monotonic() + 120
            while not (root / "admin_token").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield address, (root / "admin_token").read_text().strip()
        finally:
            process.terminate()
            process.wait(timeout=120)


@pytest.fixture
def hub(
    hub_place: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, str]:
    """Make that hub the one of this machine's user."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", hub_place[0])
    monkeypatch.setenv("HF_TOKEN", hub_place[1])
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "downloads"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "downloads"))
    return hub_place
