"""Rude events in a seeded order: kills, restarts, pauses and clocks that are set, while runs train.

After every event the state of every run is compared with what is really alive.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import psutil

from triptych.config.runs import RunsConfig
from triptych.durable import sha256_file
from triptych.errors import RunError
from triptych.lm.runs import control
from triptych.lm.runs.states import LIVE, RESUMABLE
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.wire.run_events import read_events

DAY_S = 86400.0
TIMINGS = {"time_s", "train/tok_per_s", "train/mfu", "memory_bytes", "eta_s"}
ACTS = ("kill", "kill", "kill", "term", "pause", "resume", "supervisor", "machine", "clock")
TENSORS = ("model.safetensors", "optimizer.safetensors")


def kept(run: Run) -> list[str]:
    """Hash the weights and the optimizer of the last checkpoint."""
    folder = control.checkpoint_folder(run)
    return [sha256_file(folder / name) for name in TENSORS]


def said(run: Run) -> list[dict[str, object]]:
    """Give all that a run says of its model, without timings."""
    return [
        {name: value for name, value in event.items() if name not in TIMINGS}
        for event in read_events(run.path / "events.jsonl")
        if event["type"] not in ("state", "log")
    ]


def is_alive(run: Run) -> bool:
    """Look at the process table, and trust no file but for the number."""
    pid = run.worker.get("pid")
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Storm:
    """Let it rain on some runs of a store."""

    def __init__(
        self,
        store: RunStore,
        config: RunsConfig,
        seed: int,
        acts: dict[str, Callable[[Run], None]] | None = None,
        pace: tuple[int, int] = (2, 24),
    ) -> None:
        self.store = store
        self.config = config
        self.die = random.Random(seed)
        self.more = acts or {}
        self.pace = pace
        self.now_s = time.time()
        self.supervisor = self._supervise()
        self.done: Counter[str] = Counter()

    def _supervise(self) -> RunSupervisor:
        return RunSupervisor(self.store, self.config, clock=lambda: self.now_s)

    def strike(self, run: Run) -> None:
        """Do one thing to a run, its supervisor or the whole machine."""
        act = self.die.choice([*ACTS, *self.more])
        self.done[act] += 1
        if act in ("kill", "term"):
            _signal(run, signal.SIGKILL if act == "kill" else signal.SIGTERM)
        elif act in ("supervisor", "machine"):
            # It goes without a word to its workers; a new one finds what is left.
            self.supervisor.close()
            for each in self.store.list() if act == "machine" else ():
                _signal(each, signal.SIGKILL)
            self.supervisor = self._supervise()
        elif act == "clock":
            self.now_s += self.die.choice((-1, 1)) * self.die.random() * DAY_S
        elif act in self.more:
            self.more[act](run)
        else:
            try:
                getattr(control, act)(self.store, run.run_id)
            except RunError as error:
                assert error.code == "illegal_transition"

    def weather(self, run_ids: list[str], events: int) -> int:
        """Strike so often, each time after some more lines were written; give how many struck.

        Now and then it strikes earlier, which hits what is only starting.
        """
        for struck in range(events):
            written, wait_lines = self._written(run_ids), self.die.randint(*self.pace)
            while self._written(run_ids) < written + wait_lines and self.die.random() > 0.01:
                waiting = [run for run in self._look(run_ids) if run.state != "succeeded"]
                if not waiting:
                    return struck
                time.sleep(0.05)
            self.strike(self.die.choice(self._look(run_ids)))
            self.now_s += DAY_S / events
            self._check(run_ids)
        return events

    def _written(self, run_ids: list[str]) -> int:
        logs = [self.store.path(run_id) / "events.jsonl" for run_id in run_ids]
        return sum(log.read_bytes().count(b"\n") for log in logs if log.exists())

    def calm_down(self, run_ids: list[str], seconds: float) -> None:
        """Let everything come to its end."""
        deadline = time.monotonic() + seconds
        while any(run.state != "succeeded" for run in self._look(run_ids)):
            self._check(run_ids)
            assert time.monotonic() < deadline, [run.state for run in self._look(run_ids)]
            time.sleep(0.1)

    def _look(self, run_ids: list[str]) -> list[Run]:
        self.supervisor.tick()
        runs = [self.store.get(run_id) for run_id in run_ids]
        for run in runs:
            assert run.state not in ("failed", "cancelled"), run.message
            if run.state in RESUMABLE and self.die.random() < 0.3:
                control.resume(self.store, run.run_id)
        return runs

    def _check(self, run_ids: list[str]) -> None:
        """Compare what is said with what is: a run lives exactly when its process does."""
        for run_id in run_ids:
            for _ in range(100):  # a process may end between the two looks
                run = self.store.get(run_id)
                if (run.state in LIVE) == is_alive(run) or run.job_open:
                    break
                time.sleep(0.02)
            else:
                raise AssertionError(f"{run_id} says {run.state}, its process {run.worker}")

    def found(self) -> dict[str, object]:
        """Give the figures of what happened."""
        return {
            "events": sum(self.done.values()),
            **{f"of these {act}": count for act, count in sorted(self.done.items())},
        }


def _signal(run: Run, number: int) -> None:
    if is_alive(run):
        os.kill(run.worker["pid"], number)
