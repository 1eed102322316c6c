"""Runs outlive everything: real workers, stopped, killed, resumed, and the same to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from triptych.config.runs import RunsConfig
from triptych.errors import RunError, StorageError
from triptych.lm.runs import control
from triptych.lm.runs.metrics import downsample
from triptych.lm.runs.remote.protocol import Job
from triptych.lm.runs.rights import check_quota
from triptych.lm.runs.states import LIVE
from triptych.lm.runs.store import Run, RunStore, write_worker
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.lm.runs.worker import work
from triptych.processes.identity import Identity

from .storm import kept, said


def until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def drive(supervisor: RunSupervisor, condition: Callable[[], object]) -> None:
    def tick_and_look() -> object:
        supervisor.tick()
        return condition()

    until(tick_and_look)


def kill(store: RunStore, run_id: str) -> None:
    child = store.get(run_id).child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)


def test_a_worker_outlives_its_supervisor_and_one_that_is_killed_is_resumed_to_the_bit(
    store: RunStore, request_for, calm: Callable[..., Run]
) -> None:
    expected = calm(400, "train.checkpoint_every=20")
    run_id = store.create(request_for(400, "train.checkpoint_every=20")).run_id
    with RunSupervisor(store, RunsConfig()) as supervisor:
        drive(supervisor, lambda: store.get(run_id).state == "running")
    assert store.get(run_id).state == "running", "nobody looks after it, and it trains"
    with RunSupervisor(store, RunsConfig()) as supervisor:
        supervisor.tick()
        assert store.get(run_id).worker["ticket"] == 1, "it was not started a second time"
        kill(store, run_id)
        drive(supervisor, lambda: store.get(run_id).state == "succeeded")
    assert store.get(run_id).worker["ticket"] == 2, "resumed by policy"
    assert said(store.get(run_id)) == said(expected)
    assert kept(store.get(run_id)) == kept(expected)


@pytest.mark.prove
def test_a_paused_and_a_killed_run_end_bit_identical_to_an_undisturbed_one(
    store: RunStore, request_for
) -> None:
    calm = store.create(request_for(120))
    stormy = store.create(request_for(120))
    config = RunsConfig(devices=("cpu", "cpu:1"), resume_interrupted=False)
    with RunSupervisor(store, config) as supervisor:
        drive(supervisor, lambda: store.get(stormy.run_id).step >= 20)
        control.pause(store, stormy.run_id)
        drive(supervisor, lambda: store.get(stormy.run_id).state == "paused")
        paused_at = store.get(stormy.run_id).step
        assert 20 <= paused_at < 120
        control.resume(store, stormy.run_id)
        drive(supervisor, lambda: store.get(stormy.run_id).step > paused_at)
        kill(store, stormy.run_id)
        drive(supervisor, lambda: store.get(stormy.run_id).state == "interrupted")
        control.resume(store, stormy.run_id)
        drive(supervisor, lambda: store.get(stormy.run_id).state == "succeeded")
        drive(supervisor, lambda: store.get(calm.run_id).state == "succeeded")
    assert kept(store.get(calm.run_id)) == kept(store.get(stormy.run_id))


def test_a_controller_that_comes_to_stop_a_job_is_not_stopped_itself_while_it_starts(
    store: RunStore, request_for, tmp_path: Path
) -> None:
    run = store.create(request_for(5, backend="jobs"))
    Job("a-job").write(run.path)  # its controller is gone
    control.cancel(store, run.run_id)
    assert store.get(run.run_id).state == "stopping"
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    program = f"""
import time, pathlib
time.sleep(0.5)  # no signal is handled yet, as while modules are loaded
pathlib.Path({str(begun)!r}).touch()
while not pathlib.Path({str(ended)!r}).exists(): time.sleep(0.05)
"""
    command = [sys.executable, "-S", "-c", program]
    with RunSupervisor(store, RunsConfig(), launchers={"jobs": lambda *_: command}) as supervisor:
        drive(supervisor, begun.exists)
        worker = store.get(run.run_id).worker
        assert worker["attempts"] == 1
        assert Identity.from_dict(dict(worker)).alive()
        ended.touch()
        until(lambda: not Identity.from_dict(dict(worker)).alive())
        Job("a-job", over=True).write(run.path)
        drive(supervisor, lambda: store.get(run.run_id).state == "cancelled")


def test_two_supervisors_never_share_one_store(store: RunStore) -> None:
    with RunSupervisor(store, RunsConfig()), pytest.raises(StorageError, match="in use"):
        RunSupervisor(store, RunsConfig())


def test_a_run_that_cannot_start_fails_with_its_reason(store: RunStore, request_for) -> None:
    run = store.create(request_for(10, "train.data=/nowhere/at/all"))
    write_worker(run.path, {"ticket": 1})
    assert work(run.path, Path) == 1
    assert store.get(run.run_id).state == "failed"
    assert "/nowhere/at/all" in store.get(run.run_id).message
    with pytest.raises(RunError, match="failed; it cannot be resumed") as caught:
        control.resume(store, run.run_id)
    assert "branch" in caught.value.hint


def test_the_same_key_never_starts_twice(store: RunStore, request_for) -> None:
    first = store.create(request_for(5, key="click-1"))
    again = store.create(request_for(5, key="click-1"))
    assert first.run_id == again.run_id
    assert len(store.list()) == 1


def test_runs_of_one_second_never_share_a_name(
    store: RunStore, request_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = ["00aa", "00aa", "00bb"]
    monkeypatch.setattr("secrets.token_hex", lambda size: ends.pop(0))
    monkeypatch.setattr("triptych.lm.train.folder.datetime", OneMoment)
    made = [store.create(request_for(5)).run_id for _ in range(2)]
    assert [run_id[-4:] for run_id in made] == ["00aa", "00bb"]


class OneMoment(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> OneMoment:
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


def test_a_device_trains_one_run_at_a_time_and_users_take_turns(
    store: RunStore, request_for
) -> None:
    def idle_worker(run: object, device: str) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]

    first = store.create(request_for(200, user="ann"))
    second = store.create(request_for(5, user="ann"))
    third = store.create(request_for(5, user="ben"))
    config = RunsConfig(devices=("cpu", "cpu:1"), resume_interrupted=False)
    with RunSupervisor(store, config, launchers={"local": idle_worker}) as supervisor:
        supervisor.tick()
        states = {run.run_id: run.state for run in store.list()}
        assert states[first.run_id] == "starting"
        assert states[second.run_id] == "queued", "ann already has a device"
        assert states[third.run_id] == "starting"
        kill(store, third.run_id)
        drive(supervisor, lambda: store.get(second.run_id).state == "starting")
        for run in store.list():
            if run.state == "starting":
                control.cancel(store, run.run_id)
        drive(supervisor, lambda: not any(run.state in LIVE for run in store.list()))


def test_a_branch_starts_from_a_checkpoint_and_remembers_its_parent(
    calm: Callable[..., Run],
) -> None:
    parent = calm(10)
    store = RunStore(parent.path.parent)
    child = control.branch(store, parent.run_id, ["train.steps=6", "train.seed=9"])
    assert work(child.path, Path) == 0
    assert (parent.step, parent.steps) == (10, 10)
    branched = store.get(child.run_id)
    assert branched.record["parent"] == {"run_id": parent.run_id, "checkpoint": "step-00000010"}
    assert (branched.state, branched.steps) == ("succeeded", 6)


def test_a_queued_run_can_be_cancelled_and_deleted(store: RunStore, request_for) -> None:
    run = store.create(request_for(5))
    assert control.cancel(store, run.run_id).state == "cancelled"
    store.delete(run.run_id)
    assert store.list() == []


@pytest.mark.parametrize("name", ["../x", "/etc", "", ".", "a/b", "a\0b", "x" * 300])
def test_a_name_never_leaves_the_store(store: RunStore, name: str) -> None:
    with pytest.raises(RunError):
        store.get(name)


def test_a_quota_is_named_when_it_refuses(store: RunStore, request_for) -> None:
    store.create(request_for(5, user="ann"))
    with pytest.raises(RunError, match="1 are allowed"):
        check_quota(store, RunsConfig(max_queued_per_user=1), "ann", 5)
    with pytest.raises(RunError, match="10 steps"):
        check_quota(store, RunsConfig(max_steps=10), "ann", 11)


def test_downsampling_keeps_first_last_and_every_spike() -> None:
    points = [(step, 1.0) for step in range(10_000)]
    points[4321] = (4321, 99.0)
    kept = downsample(points, 500)
    assert len(kept) <= 500
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert (4321, 99.0) in kept


@pytest.mark.prove
def test_a_run_started_in_the_terminal_is_listed_with_its_true_state(
    store: RunStore, request_for, own_home: Path
) -> None:
    config = request_for(8).config["train"]
    settings = [f"train.{name}={config[name]}" for name in ("data", "steps", "context_length")]
    subprocess.run(
        [sys.executable, "-m", "triptych", "train", *settings, "model.size=nano", "--quiet",
         "train.batch_tokens=64", "train.threads=1", "--run-dir", str(store.root / "by-hand")],
        check=True, capture_output=True,
    )  # fmt: skip
    assert store.get("by-hand").state == "succeeded"
