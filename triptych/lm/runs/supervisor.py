"""Bring runs to their desired state: start queued workers, stop others, restart the interrupted.

One supervisor at a time locks the folder of runs. It may die at any moment: workers live on in
process groups of their own, and the next supervisor reads the same files and continues. Each
device trains one run. Runs are started fairly: the user with the fewest running runs first, then
the longest wait.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from triptych.config import environment
from triptych.config.runs import RunsConfig
from triptych.durable import FolderLock
from triptych.errors import ProcessError, RunError, StorageError
from triptych.lm.runs import control
from triptych.lm.runs.rights import LOCAL, check_backend, without_tokens
from triptych.lm.runs.states import ENDED, LIVE, RESUMABLE
from triptych.lm.runs.store import Run, RunStore, write_worker
from triptych.lm.train.folder import RunFolder
from triptych.processes import Child, Command, start

TICK_S = 0.3
REMOTE = "jobs"
BATCH = ("slurm", "ssh")
# A wall clock that gained or lost this much against the monotonic one has been set.
_CLOCK_SET_S = 60.0
_STORAGE_PAUSE_S = 5.0
Launcher = Callable[[Run, str], Sequence[str]]
"""Return the command of a worker for a run and a device."""


def local_worker(run: Run, device: str) -> Sequence[str]:
    """Return the command of a worker on this machine."""
    return [sys.executable, "-m", "triptych", "runs", "work", str(run.path)]


def torchrun(config: RunsConfig) -> Launcher:
    """Return the launcher of workers of several processes, here or on more nodes."""

    def worker(run: Run, device: str) -> Sequence[str]:
        return node_command(run.path, config, int(run.control["ticket"]))

    return worker


def node_command(path: Path, config: RunsConfig, ticket: int) -> list[str]:
    """Return the torchrun command of one node; all nodes must share the run folder."""
    spread = [f"--nproc-per-node={config.processes}"]
    if config.nodes == 1:
        spread.append("--standalone")
    else:
        # A ticket belongs to one attempt, so nodes of an earlier attempt never join a later one.
        rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={config.rendezvous}"]
        spread += [f"--nnodes={config.nodes}", *rendezvous, f"--rdzv-id={path.name}-{ticket}"]
    program = ["-m", "triptych", "runs", "work", str(path)]
    return [sys.executable, "-m", "torch.distributed.run", *spread, *program]


def remote_controller(run: Run, device: str) -> Sequence[str]:
    """Return the command of the process that controls a run in a job on the hub."""
    return [sys.executable, "-m", "triptych", "runs", "control-job", str(run.path)]


def batch_controller(run: Run, device: str) -> Sequence[str]:
    """Return the command of the process that holds a run's batch job."""
    return [sys.executable, "-m", "triptych", "runs", "control-batch", str(run.path)]


def launchers_of(config: RunsConfig) -> dict[str, Launcher]:
    """Return the launcher of each backend."""
    batch: dict[str, Launcher] = dict.fromkeys(BATCH, batch_controller)
    return {
        "local": local_worker,
        "torchrun": torchrun(config),
        REMOTE: remote_controller,
        **batch,
    }


class RunSupervisor:
    """Supervise all runs of a store from one thread.

    Raises: StorageError when another live process supervises this store.
    """

    def __init__(
        self,
        store: RunStore,
        config: RunsConfig,
        *,
        launchers: Mapping[str, Launcher] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.config = config
        self._clock = clock
        self._begun_s = clock() - time.monotonic()
        self._asked_s: dict[str, float] = {}
        self._launchers = launchers or launchers_of(config)
        self._lock = FolderLock(store.root / "supervisor.lock").acquire()
        self._children: dict[str, Child] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def run_in_background(self) -> RunSupervisor:
        """Supervise in a thread until `close`."""
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)
        self._thread.start()
        return self

    def run_until_idle(self) -> None:
        """Supervise until no run is queued or alive."""
        self._loop(until_idle=True)

    def close(self) -> None:
        """Release the store. Workers live on; the next supervisor finds them."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self._lock.release()

    def __enter__(self) -> RunSupervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tick(self) -> bool:
        """Act once on every run; return whether any is queued or alive."""
        runs = self.store.list()
        quiet = all(run.state in ENDED | RESUMABLE for run in runs)
        for run in runs:
            self._reap(run)
            if run.state == "stopping":
                self._stop(run)
            elif run.state in RESUMABLE and self._resume_by_policy(run):
                control.resume(self.store, run.run_id, by="policy")
                quiet = False
            elif run.state in ENDED and self._expired(run):
                self.store.delete(run.run_id)
        if quiet:  # the usual case: nothing to start, so nothing more to read
            return False
        self._start_queued(self.store.list())
        return any(run.state == "queued" or run.state in LIVE for run in self.store.list())

    def _loop(self, *, until_idle: bool = False) -> None:
        while not self._closing.wait(TICK_S):
            try:
                if not self.tick() and until_idle:
                    return
            except StorageError as error:
                # Workers need no supervisor, and a full disk may have space again soon.
                print(f"runs: {error}; trying again", file=sys.stderr, flush=True)
                self._closing.wait(_STORAGE_PAUSE_S)

    def _start_queued(self, runs: Sequence[Run]) -> None:
        running = Counter(run.user for run in runs if run.state in LIVE)
        queued = [run for run in runs if run.state == "queued"]
        away = [run for run in queued if _is_remote(run)]
        slots = [f"job:{number}" for number in range(self.config.jobs_at_once)]
        self._fill(self.config.devices, [r for r in queued if r not in away], runs, running)
        self._fill(slots, away, runs, running)

    def _fill(
        self, devices: Sequence[str], queued: list[Run], runs: Sequence[Run], running: Counter[str]
    ) -> None:
        """Start a run on each free device: by fewest runs of the user, then by wait."""
        busy = {run.worker.get("device") for run in runs if run.state in LIVE}
        for device in devices:
            if device in busy:
                continue
            allowed = [r for r in queued if running[r.user] < self.config.max_running_per_user]
            if not allowed:
                return
            following = min(allowed, key=lambda r: (running[r.user], r.control["time_s"]))
            queued.remove(following)
            running[following.user] += 1
            self._start(following, device)

    def _start(self, run: Run, device: str, *, asked: bool = False) -> None:
        launcher = self._launchers.get(run.request.get("backend", "local"))
        newest = run.newest_checkpoint
        stuck = "ticket" in run.worker and run.worker.get("checkpoint_at_start") == newest
        worker = {
            "ticket": run.control["ticket"],
            "device": device,
            "started_s": self._clock(),
            "checkpoint_at_start": newest,
            "attempts": int(run.worker.get("attempts", 0)) + 1 if stuck else 1,
        }
        if asked:
            worker["asked_s"] = self._clock()
        # Written before the worker exists: on a full disk, no worker is better than an unknown one.
        write_worker(run.path, worker)
        if run.record:
            RunFolder(run.path).update_record(state="created", state_message="")
        try:
            if launcher is None:
                raise RunError(f"no backend {run.request['backend']!r}")
            check_backend(run.request.get("backend", "local"), run.user)
            command = Command(
                run.run_id,
                launcher(run, device),
                log=run.path / "worker.log",
                environment=environment.snapshot() if run.user == LOCAL else without_tokens(),
            )
            child = start(command)
        except (ProcessError, RunError) as error:
            RunFolder(run.path).update_record(state="failed", state_message=error.message)
            return
        try:
            write_worker(run.path, {**worker, **child.to_dict()})
        except StorageError:
            child.stop(grace_s=0.0)
            raise
        self._children[run.run_id] = child
        self._asked_s.pop(run.run_id, None)

    def _stop(self, run: Run) -> None:
        """Ask the worker to stop, once; after `grace_s`, kill what is left."""
        child = self._children.get(run.run_id) or run.child
        if child is None or not child.alive():
            if run.job_open:
                # The job's controller died; a new one stops the job. It reads the desired state
                # from the folder, and a signal while it starts would only kill it.
                self._start(run, str(run.worker.get("device")), asked=True)
            return
        if "asked_s" not in run.worker:
            # Only the worker gets the signal: helper processes are still needed for saving.
            child.ask_to_stop()
            write_worker(run.path, {**run.worker, "asked_s": self._clock()})
        # By the monotonic clock, from when this supervisor first saw it: the wall clock may be set.
        since_s = self._asked_s.setdefault(run.run_id, time.monotonic())
        if time.monotonic() - since_s > self.config.grace_s:
            child.stop(grace_s=2.0)

    def _reap(self, run: Run) -> None:
        """Collect the exit code of a worker we started, so that no zombie stays."""
        child = self._children.get(run.run_id)
        if child is not None and not child.alive():
            del self._children[run.run_id]

    def _resume_by_policy(self, run: Run) -> bool:
        attempts = int(run.worker.get("attempts", 0))
        return (
            run.state == "interrupted"
            and bool(run.request)
            and self.config.resume_interrupted
            and attempts <= self.config.max_resumes
        )

    def _expired(self, run: Run) -> bool:
        days = self.config.expire_days
        if days is None or abs(self._clock() - time.monotonic() - self._begun_s) > _CLOCK_SET_S:
            return False  # nothing is deleted by a clock that was set meanwhile
        return self._clock() - run.updated_s > days * 86400


def is_stalled(run: Run, stalled_s: float) -> bool:
    """Return whether a running worker has written no event for `stalled_s`."""
    events = run.path / "events.jsonl"
    if run.state != "running" or not events.exists():
        return False
    return time.time() - events.stat().st_mtime > stalled_s


def _is_remote(run: Run) -> bool:
    return run.request.get("backend") in (REMOTE, *BATCH)
