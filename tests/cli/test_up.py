"""Everything comes up with one command, survives the death of a part, and goes down whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from triptych.processes import free_port

pytestmark = pytest.mark.timeout(400)


def triptych(home: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "triptych", *words],
        capture_output=True, text=True, check=check, timeout=180, env=dict(os.environ),
    )  # fmt: skip


def status(home: Path) -> dict[str, Any]:
    return json.loads(triptych(home, "status", "--json", check=False).stdout)


def pid_of(home: Path, part: str) -> int | None:
    """Read which process is a part now; between two of them there is none."""
    try:
        return json.loads((home / "up" / f"{part}.json").read_text()).get("pid")
    except FileNotFoundError:
        return None


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.3)


@pytest.fixture
def house(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("HUB", "GATEWAY", "PANELS"):
        monkeypatch.setenv(f"TRIPTYCH_{name}__PORT", str(free_port()))
    yield own_home
    triptych(own_home, "down", check=False)


def test_up_keeps_every_part_alive_and_down_ends_them(house: Path) -> None:
    said = triptych(house, "up", "--detach").stdout
    assert "Triptych is up: http://127.0.0.1:" in said
    assert "first start" in said
    token = (house / "hub" / "admin_token").read_text().strip()
    key = (house / "gateway" / "admin-key").read_text().strip()
    assert token not in said and key not in said, "secrets stay in their files"
    assert [part["answers"] for part in status(house)["parts"]] == [True, True, True]

    again = triptych(house, "up", check=False)
    assert again.returncode == 2
    assert "it is up already" in again.stderr

    first = pid_of(house, "gateway")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: pid_of(house, "gateway") not in (first, None))
    until(lambda: all(part["answers"] for part in status(house)["parts"]))

    pids = [json.loads(path.read_text())["pid"] for path in (house / "up").glob("*.json")]
    assert triptych(house, "down").stdout.strip() == "down"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert triptych(house, "down").stdout.strip() == "nothing is up"


def test_a_taken_hub_port_is_refused_before_anything_starts(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.processes import bind

    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("TRIPTYCH_HUB__PORT", str(port))
        refused = triptych(house, "up", check=False)
        assert refused.returncode == 1
        assert f"port {port}" in refused.stderr and "hint" in refused.stderr
        found = triptych(house, "doctor", check=False)
        assert found.returncode == 1
        assert f"WRONG port {port}" in found.stdout
    assert not (house / "up.json").exists()
