"""A run on two machines: two torchrun agents that meet by address and share the run folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import fmean

import pytest

from triptych.config.runs import RunsConfig
from triptych.lm.runs import control
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.processes import free_port

from .storm import said

SETTINGS = ("train.checkpoint_every=50", "train.batch_tokens=128")


def losses(run: Run) -> list[float]:
    return [float(str(e["train/loss"])) for e in said(run) if e["type"] == "step"]


@pytest.mark.prove
def test_two_machines_train_stop_and_go_on_together(
    store: RunStore, request_for, calm: Callable[..., Run]
) -> None:
    alone = calm(300, *SETTINGS)
    place = f"127.0.0.1:{free_port()}"
    config = RunsConfig(nodes=2, processes=1, rendezvous=place, grace_s=30.0)
    run_id = store.create(request_for(300, *SETTINGS, backend="torchrun")).run_id
    other = subprocess.Popen(
        [sys.executable, "-m", "triptych", "runs", "join", run_id],
        env={
            **os.environ,
            "TRIPTYCH_RUNS__NODES": "2",
            "TRIPTYCH_RUNS__PROCESSES": "1",
            "TRIPTYCH_RUNS__RENDEZVOUS": place,
        },
    )

    def drive(supervisor: RunSupervisor, true: Callable[[Run], bool]) -> None:
        deadline = time.monotonic() + 240
        while supervisor.tick() is None or not true(store.get(run_id)):
            assert time.monotonic() < deadline, store.get(run_id)
            assert other.poll() in (None, 0)
            time.sleep(0.1)

    with RunSupervisor(store, config) as supervisor:
        drive(supervisor, lambda run: run.step > 20)
        assert store.get(run_id).record["processes"] == 2
        control.pause(store, run_id)
        drive(supervisor, lambda run: run.state == "paused")
        control.resume(store, run_id)
        drive(supervisor, lambda run: run.state == "succeeded")
    assert other.wait(timeout=120) == 0, "the other machine leaves when the run has ended"
    together, by_itself = losses(store.get(run_id)), losses(alone)
    # Sums in another order: the same to begin with, and as good at the end; in between a single
    # batch may differ by more, because what differs at all is carried on.
    assert together[:20] == pytest.approx(by_itself[:20], rel=5e-3)
    assert len(together) == len(by_itself) == 300
    assert fmean(together[-50:]) == pytest.approx(fmean(by_itself[-50:]), rel=0.03)
