"""A run in a job of the embedded hub is a run like any other: same events, same bits, same acts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from triptych.config.runs import RunsConfig
from triptych.hub.client import Hub
from triptych.hub.jobs import HubJobs
from triptych.lm.runs import control
from triptych.lm.runs.remote.protocol import Job
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.processes import free_port

from .storm import Storm, kept, said

PATIENCE_S = 900.0


class OwnHub:
    """A hub in a process, as anyone would serve it; it can be killed and comes back as it was."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.process = self.serve()

    def serve(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "triptych", "hub", "serve", "--root", str(self.root)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "TRIPTYCH_HUB__SPACE_PORT": "0"},
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        return self.process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/api/jobs/hardware").status == 200)
        except OSError:
            return False

    def restart(self) -> None:
        """Kill it in mid-sentence and serve the same folder again."""
        self.process.kill()
        self.process.wait()
        self.serve()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnHub]:
    """Serve a hub; our own calls and `hf` mean it."""
    own = OwnHub(tmp_path_factory.mktemp("hub"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", own.url)
        patch.setenv("HF_TOKEN", (own.root / "admin_token").read_text().strip())
        yield own
    own.process.terminate()
    own.process.wait(timeout=60)


def until(supervisor: RunSupervisor, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while supervisor.tick() is None or not true():
        assert time.monotonic() < deadline, [
            (run.state, run.message, (run.path / "worker.log").read_text()[-2000:])
            for run in supervisor.store.list()
            if (run.path / "worker.log").exists()
        ]
        time.sleep(0.1)


def hf(*arguments: str) -> str:
    """Run the unmodified `hf` command."""
    command = [str(Path(sys.executable).with_name("hf")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_a_run_in_a_job_is_watched_stopped_killed_and_ends_as_one_here(
    hub: OwnHub, store: RunStore, request_for, calm: Callable[..., Run]
) -> None:
    # Long enough not to be over before it was watched, orphaned, found again and stopped.
    steps, settings = 4000, ("train.eval_every=500", "train.checkpoint_every=500")
    here = calm(steps, *settings)
    away = store.create(request_for(steps, *settings, backend="jobs", name="away")).run_id
    lost = store.create(request_for(50_000, backend="jobs", name="lost")).run_id
    with RunSupervisor(store, RunsConfig()) as supervisor:
        until(supervisor, lambda: store.get(away).step > 150)
        assert store.get(away).state == "running"
        first = Job.of(store.get(away).path)
        assert first is not None and first.name in hf("jobs", "ps", "--format", "json")

        child = store.get(away).child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        until(supervisor, lambda: store.get(away).worker["ticket"] == 2)
        control.pause(store, away)
        assert store.get(away).state == "stopping"
        until(supervisor, lambda: store.get(away).state == "paused")
        rested = store.get(away)
        assert Job.of(rested.path) == Job(first.name, over=True), "another controller found its job"
        assert HubJobs(Hub(), RunsConfig()).status(first.name).over
        # Not asked before: `hf` reads until five seconds are silent, and this job never is.
        assert "event " in hf("jobs", "logs", first.name, "--tail", "50")
        assert rested.newest_checkpoint == f"step-{rested.step:08d}", "it was saved and is home"

        control.resume(store, away)
        until(supervisor, lambda: store.get(lost).step > 10)
        job = Job.of(store.get(lost).path)
        assert job is not None
        hf("jobs", "cancel", job.name)
        until(supervisor, lambda: store.get(lost).state == "paused")
        until(supervisor, lambda: store.get(away).state == "succeeded")
    assert said(store.get(away)) == said(here)
    assert kept(store.get(away)) == kept(here)
    assert (store.get(away).path / "report.md").exists()


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_a_storm_over_jobs_and_their_hub_changes_nothing(
    hub: OwnHub, store: RunStore, request_for, calm: Callable[..., Run], proven: Callable[..., None]
) -> None:
    steps, settings = 1200, ("train.checkpoint_every=50", "train.dropout=0.1")
    expected = calm(steps, *settings)
    run_id = store.create(request_for(steps, *settings, backend="jobs")).run_id
    jobs = HubJobs(Hub(), RunsConfig())

    def end_job(run: Run) -> None:
        job = Job.of(run.path)
        if job is not None and not job.over:
            jobs.end(job.name)

    acts = {"job": end_job, "hub": lambda run: hub.restart()}
    config = RunsConfig(resume_interrupted=False, grace_s=20.0)
    storm = Storm(store, config, seed=12, acts=acts, pace=(5, 120))
    assert storm.weather([run_id], 12) == 12, "the run was over too soon"
    storm.calm_down([run_id], seconds=3600)
    storm.supervisor.close()
    assert said(store.get(run_id)) == said(expected), storm.done
    assert kept(store.get(run_id)) == kept(expected), storm.done
    found = {
        **storm.found(),
        "steps": steps,
        "controllers started": int(store.get(run_id).worker["ticket"]),
        "numbered events, equal in every value": len(said(expected)),
        "differing bytes of weights and optimizer": 0,
    }
    proven("disturbances", "in jobs of the embedded hub", found)
