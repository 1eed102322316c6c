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


def until(condition: Callable[[], object], seconds: float = 150.0) -> None:
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

    looked = json.loads(triptych(house, "doctor", "--json", check=False).stdout)
    found = {finding["what"]: finding for finding in looked}
    assert found["gateway database"]["found"].startswith("SQLite, schema 0")
    assert found["flags"]["ok"] and found["hub token"]["ok"] and found["sign-in"]["ok"]

    again = triptych(house, "up", check=False)
    assert again.returncode == 2
    assert "it is up already" in again.stderr

    for part in ("gateway", "web", "hub"):
        first = pid_of(house, part)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda part=part, first=first: pid_of(house, part) not in (first, None))
        until(lambda: all(row["answers"] for row in status(house)["parts"]))

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


def test_every_part_follows_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.cli.operate import services
    from triptych.config import load_config

    profile = tmp_path / "profile.toml"
    profile.write_text(
        "[gateway]\nworkers = 2\nanonymous = true\n"
        '[gateway.upstreams.vllm]\nprovider = "local"\naddress = "http://127.0.0.1:8000"\n'
    )
    told = services.settings(profile, ["gateway.port=7999"])
    assert told == {
        "TRIPTYCH_GATEWAY__WORKERS": "2",
        "TRIPTYCH_GATEWAY__ANONYMOUS": "true",
        "TRIPTYCH_GATEWAY__PORT": "7999",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    config = load_config(profile)
    assert (config.gateway.workers, config.gateway.port) == (2, 7999)
    started = {part.name: part for part in services.parts(config, 7860, profile)}
    assert str(profile) in started["gateway"].words
    assert "hub" in started


def test_a_hub_elsewhere_takes_the_place_of_the_embedded_one(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triptych.cli.operate import services
    from triptych.config import load_config

    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.org")
    started = {part.name: part for part in services.parts(load_config(), 7860)}
    assert list(started) == ["gateway", "web"]
    assert "https://hub.example.org" in started["web"].words


def test_a_failing_part_is_told_to_the_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    from triptych.cli.operate.alerts import VARIABLE, alert

    heard: list[dict[str, str]] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    monkeypatch.delenv(VARIABLE, raising=False)
    assert alert("nobody hears this") is None
    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:{server.server_port}/hook")
        sent = alert("the gateway is waiting")
        assert sent is not None
        sent.join(timeout=120)
    assert heard == [{"text": "the gateway is waiting"}]


def test_the_container_files_are_well_formed() -> None:
    root = Path(__file__).resolve().parents[2]
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
         str(root / "compose.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    words = [line.split()[0] for line in (root / "Dockerfile").read_text().splitlines()
             if line and line[0].isalpha()]  # fmt: skip
    assert words[0] == "FROM"
    known = "FROM ARG RUN COPY WORKDIR ENV USER EXPOSE VOLUME HEALTHCHECK CMD"
    assert set(words) <= set(known.split())
    assert words.index("USER") < words.index("CMD"), "never as root"
