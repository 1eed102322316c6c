"""The processes behind runs: supervisor, worker, controller of a job, another node.

A person types `supervise` and `join`; `work` and `control-job` are started by the supervisor.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.hub.jobs import HubJobs
    from triptych.lm.runs.store import RunStore


def open_store() -> RunStore:
    """Open the runs in the user's home folder."""
    from triptych.config import environment
    from triptych.lm.runs.store import RunStore

    return RunStore(environment.home() / "runs")


def ensure_supervisor() -> None:
    """Start a supervisor that ends by itself, unless one is alive."""
    from triptych.config import environment
    from triptych.durable import FolderLock
    from triptych.errors import StorageError
    from triptych.processes import Command, start

    root = environment.home() / "runs"
    try:
        FolderLock(root / "supervisor.lock").acquire().release()
    except StorageError:
        return
    arguments = [sys.executable, "-m", "triptych", "runs", "supervise", "--until-idle"]
    start(Command("runs-supervisor", arguments, log=environment.home() / "logs" / "runs.log"))


def supervise(args: argparse.Namespace) -> int:
    """Train what is queued, in this process, until stopped or idle."""
    from triptych.config import load_config
    from triptych.lm.runs.supervisor import RunSupervisor

    with RunSupervisor(open_store(), load_config().runs) as supervisor:
        if args.until_idle:
            supervisor.run_until_idle()
            return 0
        supervisor.run_in_background()
        while True:
            time.sleep(3600)


def work(args: argparse.Namespace) -> int:
    """Train one run in this process; the supervisor starts it."""
    from triptych.cli.resolve import resolve
    from triptych.config import environment
    from triptych.errors import UsageError
    from triptych.lm.runs.worker import work

    if args.folder:
        return work(args.folder, resolve)
    from triptych.lm.runs.remote.entrypoint import train_in_job

    job = environment.get("JOB_ID")
    if not job:
        raise UsageError(
            "--sent works only inside a job of the hub", hint="triptych runs start --on jobs"
        )
    return train_in_job(_jobs(), args.sent, job, environment.home(), resolve)


def control_job(args: argparse.Namespace) -> int:
    """Control one run that trains in a job; the supervisor starts it."""
    from triptych.lm.runs.remote.controller import control_job

    return control_job(args.folder, _jobs())


def control_batch(args: argparse.Namespace) -> int:
    """Hold the batch job of one run; the supervisor starts it."""
    import json

    from triptych.config import load_config
    from triptych.lm.runs.batch.controller import control_batch
    from triptych.lm.runs.batch.schedulers import scheduler_of

    config = load_config().runs
    backend = json.loads((args.folder / "request.json").read_bytes())["backend"]
    return control_batch(args.folder, scheduler_of(backend, config), config)


def join(args: argparse.Namespace) -> int:
    """Take part, as one more node, in a run that torchrun spreads over machines."""
    from triptych.config import load_config
    from triptych.lm.runs.node import join

    return join(open_store(), args.run_id, load_config().runs)


def _jobs() -> HubJobs:
    from triptych.config import load_config
    from triptych.hub.client import Hub
    from triptych.hub.jobs import HubJobs

    return HubJobs(Hub(), load_config().runs)
