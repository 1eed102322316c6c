"""The commands of a scheduler: submit a script, see its job, signal it, end it.

SLURM by `sbatch`, `scontrol` and `scancel`; a machine without a scheduler by `ssh`.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from triptych.config.runs import RunsConfig
from triptych.errors import RunError

State = Literal["waiting", "running", "over", "unknown"]
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "SPECIAL_EXIT"}
_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING"}
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class JobState:
    """What became of a job; `unknown` where the scheduler does not answer."""

    state: State
    message: str = ""


class Scheduler(Protocol):
    """Where jobs run."""

    def submit(self, script: Path) -> str:
        """Submit a script and return the job's name.

        Raises: RunError where it is refused.
        """
        ...

    def state(self, job: str) -> JobState:
        """Return what became of a job."""
        ...

    def ask_to_stop(self, job: str) -> None:
        """Let the worker finish its step, save and end."""
        ...

    def end(self, job: str) -> None:
        """End the job at once."""
        ...


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except FileNotFoundError as error:
        raise RunError(
            f"{command[0]} is not on this machine", hint="start the run where it is, or --on local"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{command[0]} gave no answer within {_PATIENCE_S:.0f} s") from error


class Slurm:
    """A SLURM cluster whose nodes see the folder of runs."""

    def submit(self, script: Path) -> str:
        """Submit a script; as `Scheduler`."""
        done = _run(["sbatch", "--parsable", str(script)])
        if done.returncode != 0:
            raise RunError(
                f"sbatch refuses the job: {done.stderr.strip()[:300]}",
                hint=f"the script is {script}; change runs.slurm_options",
            )
        return done.stdout.strip().partition(";")[0]

    def state(self, job: str) -> JobState:
        """Return what became of a job; as `Scheduler`."""
        done = _run(["scontrol", "show", "job", job, "--oneliner"])
        if done.returncode != 0:
            gone = "Invalid job id" in done.stderr
            return JobState("over" if gone else "unknown", done.stderr.strip()[:300])
        fields = dict(part.partition("=")[::2] for part in done.stdout.split())
        name = fields.get("JobState", "").partition("+")[0]
        if name in _WAITING:
            return JobState("waiting", fields.get("Reason", ""))
        if name in _RUNNING:
            return JobState("running")
        return JobState("over", "" if name == "COMPLETED" else f"SLURM job {job}: {name}")

    def ask_to_stop(self, job: str) -> None:
        """Signal the job's script, or take it out of the queue; as `Scheduler`."""
        if self.state(job).state == "waiting":
            _run(["scancel", job])
        else:
            _run(["scancel", "--batch", "--signal=TERM", job])

    def end(self, job: str) -> None:
        """Cancel the job; as `Scheduler`."""
        _run(["scancel", job])


class Ssh:
    """Another machine, reached by ssh without a password, that sees the folder of runs."""

    def __init__(self, host: str, options: Sequence[str] = ()) -> None:
        if not host or host.startswith("-"):
            raise RunError("runs.ssh_host names no machine", hint="runs.ssh_host=user@gpu-1")
        self._host = host
        self._command = ["ssh", "-o", "BatchMode=yes", *options, "--", host]

    def _there(self, line: str) -> subprocess.CompletedProcess[str]:
        return _run([*self._command, line])

    def submit(self, script: Path) -> str:
        """Start the script there in a session of its own; as `Scheduler`."""
        path = shlex.quote(str(script))
        log = shlex.quote(str(script.with_name("worker.log")))
        line = f"nohup setsid bash {path} >> {log} 2>&1 < /dev/null & echo $!"
        done = self._there(line)
        if done.returncode != 0 or not done.stdout.strip().isdigit():
            raise RunError(
                f"{self._host} does not start the run: {done.stderr.strip()[:300]}",
                hint=f"try: ssh {self._host} bash {script}",
            )
        return f"{self._host}:{done.stdout.strip()}"

    def state(self, job: str) -> JobState:
        """Return whether the script still runs; as `Scheduler`."""
        done = self._there(f"ps -o args= -p {self._number(job)} || echo gone")
        if done.returncode != 0:
            return JobState("unknown", done.stderr.strip()[:300])
        # a number that another program has by now is not the job
        alive = "job.sh" in done.stdout
        return JobState("running" if alive else "over")

    def ask_to_stop(self, job: str) -> None:
        """Signal the script; as `Scheduler`."""
        self._there(f"kill -TERM {self._number(job)}")

    def end(self, job: str) -> None:
        """Kill the script and its worker; as `Scheduler`."""
        self._there(f"kill -KILL -{self._number(job)}")

    def _number(self, job: str) -> int:
        return int(job.rpartition(":")[2])


def scheduler_of(backend: str, config: RunsConfig) -> Scheduler:
    """Return the scheduler of a backend.

    Raises: RunError for one that has none.
    """
    if backend == "slurm":
        return Slurm()
    if backend == "ssh":
        return Ssh(config.ssh_host, config.ssh_options)
    raise RunError(f"no batch backend is called {backend!r}", hint="--on slurm or --on ssh")
