"""Random kills, pauses and restarts: every state true, every run bit-identical to a calm one."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from triptych.config.runs import RunsConfig
from triptych.durable import sha256_file
from triptych.errors import RunError
from triptych.lm.runs import control
from triptych.lm.runs.states import LIVE, RESUMABLE
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import RunSupervisor

DEVICES = ("cpu", "cpu:1")


def weights(run: Run) -> str:
    return sha256_file(control.checkpoint_folder(run) / "model.safetensors")


def steps_of(run: Run) -> list[int]:
    from triptych.lm.evaluate.journey import read_events

    return [e["step"] for e in read_events(run.path / "events.jsonl") if e["type"] == "step"]


class Storm:
    """Do something rude to a run or to its supervisor, chosen by a seeded die."""

    def __init__(self, store: RunStore, seed: int) -> None:
        self.store = store
        self.die = random.Random(seed)
        self.config = RunsConfig(devices=DEVICES, resume_interrupted=False, grace_s=20.0)
        self.supervisor = RunSupervisor(store, self.config)
        self.done: list[str] = []

    def strike(self, run: Run) -> None:
        """Do one thing, and check that the state afterwards is one that it allows."""
        act = self.die.choice(("kill", "kill", "term", "pause", "resume", "supervisor"))
        self.done.append(act)
        child = run.child
        if act in ("kill", "term") and child is not None and child.alive():
            number = signal.SIGKILL if act == "kill" else signal.SIGTERM
            os.kill(child.pid, number)
        elif act == "supervisor":
            # It goes without a word to its workers; a new one finds them.
            self.supervisor.close()
            self.supervisor = RunSupervisor(self.store, self.config)
        elif act in ("pause", "resume"):
            try:
                getattr(control, act)(self.store, run.run_id)
            except RunError as error:
                assert error.code == "illegal_transition"

    def weather(self, run_ids: list[str], events: int) -> None:
        """Strike so many times, at moments of the die's choice, while runs are under way."""
        struck = 0
        while struck < events:
            self.supervisor.tick()
            runs = [self.store.get(run_id) for run_id in run_ids]
            for run in runs:
                if run.state in RESUMABLE and self.die.random() < 0.5:
                    control.resume(self.store, run.run_id)
            waiting = [run for run in runs if run.state != "succeeded"]
            if not waiting:
                return
            if any(run.state in LIVE for run in waiting) and self.die.random() < 0.1:
                self.strike(self.die.choice(waiting))
                struck += 1
            time.sleep(0.05)

    def calm_down(self, run_ids: list[str], seconds: float) -> None:
        """Let everything come to its end."""
        deadline = time.monotonic() + seconds
        while True:
            self.supervisor.tick()
            runs = [self.store.get(run_id) for run_id in run_ids]
            if all(run.state == "succeeded" for run in runs):
                self.supervisor.close()
                return
            for run in runs:
                assert run.state not in ("failed", "cancelled"), run.message
                if run.state in RESUMABLE:
                    control.resume(self.store, run.run_id)
            assert time.monotonic() < deadline, [run.state for run in runs]
            time.sleep(0.1)


@pytest.mark.prove
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("events", [20, 200])
def test_a_stormy_day_ends_as_a_calm_one(store: RunStore, request_for, events: int) -> None:
    steps = 400 * events // 20
    calm = store.create(request_for(steps, name="calm"))
    stormy = [store.create(request_for(steps, name=f"stormy {n}")).run_id for n in range(2)]
    storm = Storm(store, seed=events)
    storm.weather(stormy, events)
    storm.calm_down([calm.run_id, *stormy], seconds=3600)
    expected = weights(store.get(calm.run_id))
    for run_id in stormy:
        run = store.get(run_id)
        assert weights(run) == expected, storm.done
        assert steps_of(run) == list(range(1, steps + 1)), "the history has every step once"


@pytest.mark.prove
def test_a_run_spread_over_two_processes_is_a_run_like_any_other(
    store: RunStore, request_for
) -> None:
    spread = store.create(request_for(12, backend="torchrun"))
    alone = store.create(request_for(12))
    with RunSupervisor(store, RunsConfig(devices=DEVICES)) as supervisor:
        deadline = time.monotonic() + 300
        while supervisor.tick():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert store.get(spread.run_id).state == store.get(alone.run_id).state == "succeeded"
    assert store.get(spread.run_id).record["processes"] == 2
    assert steps_of(store.get(spread.run_id)) == steps_of(store.get(alone.run_id))


def test_an_unknown_back_end_fails_the_run_in_words(store: RunStore, request_for) -> None:
    run = store.create(request_for(5, backend="cloud"))
    with RunSupervisor(store, RunsConfig()) as supervisor:
        supervisor.tick()
    ended = store.get(run.run_id)
    assert ended.state == "failed" and "no back end 'cloud'" in ended.message
