"""`triptych learn watch` goes on and back by itself and survives kills; two nodes agree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_process import Process
from loop_process import QUICK, Loop

from triptych.learning.loop.controller import Place
from triptych.learning.loop.rollout import read_state
from triptych.learning.loop.status import read_status


@pytest.fixture
def loops(own_home: Path) -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(**given: Any) -> Loop:
        made.append(Loop(own_home, **given))
        return made[-1]

    yield make
    for one in made:
        one.gateway.kill()


class Watch:
    """`triptych learn watch` as a process of its own."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.log = loop.home / "watch.log"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "triptych", *self.loop.arguments("watch")]
        environment = os.environ | {"TRIPTYCH_HOME": str(self.loop.home)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--interval", "0.3"], env=environment, stdout=log, stderr=log
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def until(self, stage: str, share: float | None = None) -> str:
        """Wait until the rollout stands there; return the reason."""
        for _ in range(300):
            state = read_state(self.loop.home / "learning" / "base")
            if state.stage == stage and share in (None, state.share) and state.applied:
                return state.reason
            time.sleep(0.1)
        raise AssertionError((state, self.log.read_text()))


@pytest.mark.parametrize(
    ("candidate", "settings", "reason"),
    [
        ("status-503", "", "failed"),
        ("say-I-cannot-answer-that", "", "refuses"),
        ("say-the-code-is-zebra", 'blocked_patterns = ["zebra"]', "secrets"),
    ],
)
def test_j4_a_bad_challenger_goes_back_by_itself_before_a_user_met_it(
    loops: Callable[..., Loop], candidate: str, settings: str, reason: str
) -> None:
    loop = loops(served="echo", candidate=candidate, settings=settings)
    loop.learn("start", "--ungated", "served", "candidate", "--limit=latency_ratio=1000")
    watch = Watch(loop)
    # A hundred copies show that a model refuses everything; one withheld answer is enough.
    assert loop.traffic(110) == 110
    assert reason in watch.until("rolled_back")
    assert watch.kill(signal.SIGTERM) == 0
    assert loop.traffic(12, 1000) == 12
    assert {row["upstream"] for row in loop.call("GET", "/api/requests?limit=200")["requests"]} == {
        "served"
    }


def test_j4_a_healthy_challenger_passes_every_share_while_the_watch_is_killed(
    loops: Callable[..., Loop],
) -> None:
    loop = loops()
    loop.learn("start", "--ungated", "served", "candidate", *QUICK)
    watch = Watch(loop)
    at = 0
    for stage, share in (("live", 0.05), ("live", 0.25), ("live", 0.5), ("promoted", 1.0)):
        assert watch.kill() == -signal.SIGKILL
        watch.start()
        for _ in range(12):
            state = read_state(loop.home / "learning" / "base")
            if state.share >= share:
                break
            loop.traffic(120, at)
            at += 120
        watch.until(stage, share) if state.share <= share else None
    assert "rated better" in watch.until("promoted")
    status = read_status(Place(loop.home / "learning" / "base", "base"))
    assert [one.state for one in status.steps[3:]] == ["done"] * 5
    # The record holds what each decision rests on, and the shares went up one at a time.
    shares = [one["state"]["share"] for one in reversed(status.decisions)]
    assert shares == sorted(shares)
    assert loop.traffic(12, 90_000) == 12
    loop.learn("back")
    assert loop.traffic(12, 95_000) == 0
    watch.kill(signal.SIGTERM)


def test_two_gateway_nodes_serve_the_same_share_to_the_same_users(
    loops: Callable[..., Loop], tmp_path: Path
) -> None:
    loop = loops(people=40)
    loop.learn("start", "--ungated", "served", "candidate", *QUICK)
    loop.traffic(20)
    time.sleep(0.3)
    loop.learn("decide")
    other = Process(tmp_path)
    database = f'database_url = "sqlite:///{loop.home / "gateway.db"}"'
    text = (loop.home / "gateway.toml").read_text()
    (tmp_path / "gateway.toml").write_text(text.replace("port = 0", f"port = 0\n{database}"))
    (tmp_path / "gateway").mkdir()
    for name in ("admin-key", "secrets-key"):
        file = loop.home / "gateway" / name
        if file.exists():
            (tmp_path / "gateway" / name).write_text(file.read_text())
    other.start()
    own = loop.gateway.url

    def who(address: str, round_: str) -> set[int]:
        loop.gateway.url = address
        taken = set()
        for number, key in enumerate(loop.keys):
            question = f"node question {round_} {number}"
            if loop.ask(question, key)[1] == question:
                taken.add(number)
        return taken

    try:
        assert read_state(loop.home / "learning" / "base").share == 0.05
        first = who(own, "a")
        assert who(other.url, "b") == first
        loop.gateway.url = own
        loop.traffic(400, 1000)
        loop.learn("decide")
        assert read_state(loop.home / "learning" / "base").share == 0.25
        time.sleep(0.5)
        grown = who(own, "c")
        assert first < grown
        assert who(other.url, "d") == grown
        loop.gateway.url = own
        loop.learn("back")
        time.sleep(0.5)
        assert who(own, "e") == who(other.url, "f") == set()
    finally:
        other.kill()
        loop.gateway.url = own
