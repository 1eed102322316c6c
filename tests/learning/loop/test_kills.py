"""kill -9 of the gateway and of the loop at every step: the state is true and goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_process import QUICK, Loop

from triptych.learning.loop.rollout import STATE_FILE


@pytest.fixture
def loop(own_home: Path) -> Iterator[Loop]:
    made = Loop(own_home)
    yield made
    made.gateway.kill()


def step(loop: Loop, at: int) -> Any:
    """Bring what the next decision needs, and decide."""
    if at == 0:
        for number in range(10):
            loop.ask(f"shadow question {number}", model="base.challenger")
    loop.traffic(120, 1000 * at)
    time.sleep(0.1)
    return loop.learn("decide")


def test_a_gateway_killed_at_every_step_changes_no_state_and_the_rollout_goes_on(
    loop: Loop,
) -> None:
    loop.learn("start", "--ungated", "served", "candidate", *QUICK)
    file = loop.home / "learning" / "base" / STATE_FILE
    seen = []
    for at in range(12):
        before = file.read_bytes()
        loop.gateway.kill()
        assert "did not answer" in loop.learn("decide", code=3)
        assert file.read_bytes() == before
        loop.gateway.start()
        assert loop.learn("status")["traffic_agrees"]
        state = step(loop, at)
        seen.append(state["share"])
        if state["stage"] == "promoted":
            break
    assert seen[-1] == 1.0, state
    loop.gateway.kill()
    # Taken back while the gateway is away: the state says so now, the traffic follows.
    assert "did not answer" in loop.learn("back", code=3)
    assert json.loads(file.read_text())["stage"] == "rolled_back"
    loop.gateway.start()
    assert not loop.learn("status")["traffic_agrees"]
    loop.learn("decide")
    assert loop.learn("status")["traffic_agrees"]
    assert loop.traffic(12, 50_000) == 0


def test_a_command_killed_at_any_moment_is_completed_by_the_next(loop: Loop) -> None:
    loop.learn("start", "--ungated", "served", "candidate", *QUICK)
    kills, at = 0, 0
    state: Any = {"stage": "shadow"}
    while state["stage"] != "promoted" and at < 12:
        if at == 0:
            for number in range(10):
                loop.ask(f"shadow question {number}", model="base.challenger")
        loop.traffic(120, 1000 * at)
        time.sleep(0.1)
        command = [sys.executable, "-m", "triptych", *loop.arguments("decide")]
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.25 + 0.05 * (at % 4))
        killed.send_signal(signal.SIGKILL)
        kills += killed.wait() == -signal.SIGKILL
        state = loop.learn("decide")
        assert loop.learn("status")["traffic_agrees"], state
        at += 1
    assert state["stage"] == "promoted"
    assert kills
