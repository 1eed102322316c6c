"""A run moves from this machine to a batch job and back, and is, bit for bit, one that stayed."""

from __future__ import annotations

import getpass
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.cli.main import main
from triptych.config.runs import RunsConfig
from triptych.errors import RunError
from triptych.lm.runs import control
from triptych.lm.runs.batch.job_files import batch_script, skypilot_task
from triptych.lm.runs.batch.schedulers import Slurm, scheduler_of
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import RunSupervisor

STEPS = 300


def weights(run: Run) -> bytes:
    name = (run.path / "checkpoints" / "latest").read_text().strip()
    return (run.path / "checkpoints" / name / "model.safetensors").read_bytes()


def losses(run: Run) -> list[tuple[int, float]]:
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    return sorted({(e["step"], e["train/loss"]) for e in events if e["type"] == "step"})


class Driver:
    """Drive one run with a supervisor until it is where a test wants it."""

    def __init__(self, store: RunStore, supervisor: RunSupervisor, run_id: str) -> None:
        self.store, self.supervisor, self.run_id = store, supervisor, run_id

    @property
    def run(self) -> Run:
        return self.store.get(self.run_id)

    def until(self, true: Callable[[Run], bool]) -> Run:
        deadline = time.monotonic() + 150
        while True:
            self.supervisor.tick()
            if true(self.run):
                return self.run
            log = self.run.path / "worker.log"
            assert time.monotonic() < deadline, log.read_text() if log.exists() else self.run
            time.sleep(0.1)

    def paused_after(self, step: int) -> None:
        self.until(lambda run: run.step > step)
        control.pause(self.store, self.run_id)
        self.until(lambda run: run.state == "paused")
        assert self.run.step < STEPS

    def moved(self, backend: str) -> None:
        control.move(self.store, self.run_id, backend)
        control.resume(self.store, self.run_id)


@pytest.fixture
def drive(store: RunStore, request_for: Callable[..., object]) -> object:
    opened: list[RunSupervisor] = []

    def begin(**settings: object) -> Driver:
        supervisor = RunSupervisor(store, RunsConfig(grace_s=60.0, **settings))  # type: ignore[arg-type]
        opened.append(supervisor)
        return Driver(store, supervisor, store.create(request_for(STEPS)).run_id)  # type: ignore[arg-type]

    yield begin
    for supervisor in opened:
        supervisor.close()


def test_a_run_that_moves_to_a_slurm_job_and_back_is_the_run_that_stayed(
    slurm: str, drive, calm: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm)
    one = drive()
    one.paused_after(20)
    here = one.run.step
    one.moved("slurm")
    one.until(lambda run: run.job_open and run.step > here + 20)
    job = json.loads((one.run.path / "job.json").read_text())["name"]
    assert Slurm().state(job).state == "running"
    # the node is taken away: SLURM queues the job again, and it goes on from its checkpoint
    subprocess.run(["scontrol", "requeue", job], check=True)
    again = one.run.step
    one.until(lambda run: Slurm().state(job).state == "waiting")
    # SLURM lets a requeued job wait for two minutes
    subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], check=True)
    one.until(lambda run: run.step > again + 20)
    control.pause(one.store, one.run_id)
    one.until(lambda run: run.state == "paused")
    assert Slurm().state(job).state == "over"
    one.moved("local")
    ended = one.until(lambda run: run.state in ("succeeded", "failed"))
    alone = calm(STEPS)
    assert ended.state == "succeeded"
    assert weights(ended) == weights(alone)
    assert losses(ended) == losses(alone)


def test_a_run_trains_on_a_machine_that_ssh_reaches_and_pauses_there(
    other_machine: list[str], drive, calm: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"ssh_host": f"{getpass.getuser()}@127.0.0.1", "ssh_options": other_machine}
    monkeypatch.setenv("TRIPTYCH_RUNS__SSH_HOST", str(settings["ssh_host"]))
    monkeypatch.setenv("TRIPTYCH_RUNS__SSH_OPTIONS", json.dumps(other_machine))
    one = drive()
    one.paused_after(20)
    one.moved("ssh")
    one.until(lambda run: run.job_open and run.step > 60)
    control.pause(one.store, one.run_id)
    one.until(lambda run: run.state == "paused")
    control.resume(one.store, one.run_id)
    ended = one.until(lambda run: run.state in ("succeeded", "failed"))
    assert weights(ended) == weights(calm(STEPS))


def test_the_job_file_is_printed_for_slurm_and_for_skypilot(
    store: RunStore, request_for, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store.create(request_for(10))
    config = RunsConfig(
        nodes=2,
        batch_processes=8,
        slurm_options=("--partition=gpu",),
        batch_setup="module load cuda",
    )
    script = batch_script(run.path, config)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "#SBATCH --partition=gpu\n" in script and "#SBATCH --requeue\n" in script
    assert "module load cuda\n" in script and "--nnodes=2" in script
    code = main(
        ["runs", "job-file", run.run_id, "runs.skypilot_bucket=s3://my-runs", "--for", "skypilot"]
    )
    assert code == 0
    task = json.loads(capsys.readouterr().out)
    assert task["resources"]["accelerators"] == "H100:1"
    assert task["file_mounts"]["/runs"]["source"] == "s3://my-runs"
    commands = task["run"]
    assert subprocess.run(["bash", "-n"], input=commands, text=True, check=False).returncode == 0
    with pytest.raises(RunError, match="names no bucket"):
        skypilot_task(run.path, RunsConfig())


def test_a_scheduler_that_is_not_there_fails_the_run_with_its_reason(
    drive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="names no machine"):
        scheduler_of("ssh", RunsConfig())
    one = drive()
    one.paused_after(10)
    monkeypatch.setenv("PATH", str(tmp_path))
    one.moved("slurm")
    ended = one.until(lambda run: "sbatch" in run.message and run.state != "starting")
    assert "is not on this machine" in ended.message
    assert ended.state == "paused", "it can be resumed elsewhere"
