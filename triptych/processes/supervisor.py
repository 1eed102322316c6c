"""Keep children running: watch, hold to limits, restart with back-off, reap after a kill.

One folder belongs to one live supervisor. It holds a record per child, written before the child
starts, so that whatever happens to the supervisor its successor finds every process again and
ends it. Left out: children that must outlive everyone (training runs use `Child` alone).
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from triptych.durable import Closing, FolderLock, write_atomic
from triptych.errors import ProcessError
from triptych.processes import identity
from triptych.processes.child import Child, Command, start, trim

FORMAT_VERSION = 1
TICK_S = 0.1
LIMITS_EVERY_S = 0.5

State = Literal["running", "waiting", "stopping", "stopped", "exited"]


@dataclass(frozen=True)
class Backoff:
    """How a child that ended by itself is started again.

    The pause grows from `first_s` by `factor` up to `ceiling_s`. After `attempts` ends in a row
    it is left alone; a child that ran for `healthy_s` starts counting afresh. With
    `only_failures`, an end with exit code 0 is the end.
    """

    first_s: float = 1.0
    factor: float = 2.0
    ceiling_s: float = 60.0
    attempts: int = 5
    healthy_s: float = 60.0
    only_failures: bool = False

    def pause_s(self, failures: int) -> float:
        """Return the pause before the start that follows this many ends in a row."""
        # a float holds 2.0 ** 1023 and no more; long before that the ceiling is reached
        return min(self.ceiling_s, self.first_s * self.factor ** min(failures - 1, 64))


@dataclass(frozen=True)
class Status:
    """What a supervised child does: running, waiting for its restart, stopped (asked), exited."""

    name: str
    state: State
    pid: int | None
    exit_code: int | None
    reason: str
    restarts: int
    since_s: float


@dataclass
class _Watched:
    command: Command
    backoff: Backoff | None
    child: Child
    state: State = "running"
    exit_code: int | None = None
    reason: str = ""
    over_limit: str = ""
    failures: int = 0
    restarts: int = 0
    started_at: float = field(default_factory=time.monotonic)
    restart_at: float = 0.0
    since_s: float = field(default_factory=time.time)

    def become(self, state: State, reason: str = "") -> Status:
        self.state, self.reason, self.since_s = state, reason, time.time()
        return self.status()

    def status(self) -> Status:
        running = self.state in ("running", "stopping")
        return Status(
            name=self.command.name,
            state=self.state,
            pid=self.child.pid if running else None,
            exit_code=self.exit_code,
            reason=self.reason,
            restarts=self.restarts,
            since_s=self.since_s,
        )


class Supervisor(Closing):
    """Watch children from one thread; `on_change` hears every new status, from any thread.

    Opening the folder ends what a killed supervisor left running there; `reaped` names it.

    Raises: StorageError when another live supervisor has the folder.
    """

    def __init__(self, folder: Path, *, on_change: Callable[[Status], None] | None = None) -> None:
        self.folder = Path(folder)
        self._on_change = on_change
        self._guard = threading.RLock()
        self._watched: dict[str, _Watched] = {}
        self._closing = threading.Event()
        self._lock = FolderLock(self.folder / "supervisor.lock").acquire()
        self.reaped = self._reap()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def start(self, command: Command, *, backoff: Backoff | None = None) -> Status:
        """Start a child and watch it; a `backoff` restarts it whenever it ends by itself.

        Raises: ProcessError when the name is in use or the program cannot be started.
        """
        with self._guard:
            if self._closing.is_set():
                raise ProcessError("the supervisor is closing", hint="start it again")
            known = self._watched.get(command.name)
            if known is not None and known.state not in ("stopped", "exited"):
                raise ProcessError(f"{command.name} runs already", hint="stop it first")
            watched = _Watched(command, backoff, self._spawn(command))
            self._watched[command.name] = watched
            status = watched.status()
        self._tell(status)
        return status

    def stop(self, name: str) -> Status | None:
        """End a child and everything it started; wait until they are gone.

        Raises: ProcessError when it does not die; its record stays for the next start to try.
        """
        with self._guard:
            watched = self._watched.get(name)
            if watched is None or watched.state in ("stopped", "exited"):
                return watched.status() if watched else None
            mine, waiting = watched.state != "stopping", watched.state == "waiting"
            watched.state = "stopping"
        if not mine:
            return self.wait(name)
        try:
            if not waiting:
                watched.child.stop(watched.command.grace_s)
        except ProcessError as error:
            with self._guard:
                watched.become("exited", error.message)
            raise
        with self._guard:
            watched.exit_code = watched.child.exit_code()
            status = watched.become("stopped")
            self._record_path(name).unlink(missing_ok=True)
        self._tell(status)
        return status

    def freeze(self, name: str) -> None:
        """Let a running child and its descendants stand still; `thaw` lets them go on."""
        self._running(name, Child.freeze)

    def thaw(self, name: str) -> None:
        """Let a frozen child go on."""
        self._running(name, Child.thaw)

    def status(self, name: str) -> Status | None:
        """Return what a child does now."""
        with self._guard:
            watched = self._watched.get(name)
            return watched.status() if watched else None

    def statuses(self) -> list[Status]:
        """Return what every child does now."""
        with self._guard:
            return [watched.status() for watched in self._watched.values()]

    def wait(self, name: str, timeout_s: float | None = None) -> Status:
        """Wait until a child has stopped or exited for good, or the time is over.

        Raises: ProcessError when there is no child of that name.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            status = self.status(name)
            if status is None:
                raise ProcessError(f"there is no process {name}", hint="start it first")
            late = deadline is not None and time.monotonic() >= deadline
            if late or status.state in ("stopped", "exited"):
                return status
            time.sleep(TICK_S / 2)

    def forget(self, name: str) -> None:
        """Drop a child that has ended from the statuses."""
        with self._guard:
            watched = self._watched.get(name)
            if watched is not None and watched.state in ("stopped", "exited"):
                del self._watched[name]

    def close(self) -> None:
        """Stop every child and let the folder go."""
        with self._guard:
            self._closing.set()
            names = list(self._watched)
        with ThreadPoolExecutor(max_workers=16) as pool:
            list(pool.map(self.stop, names))
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._lock.release()

    def _running(self, name: str, act: Callable[[Child], None]) -> None:
        with self._guard:
            watched = self._watched.get(name)
            if watched is not None and watched.state == "running":
                act(watched.child)

    def _spawn(self, command: Command) -> Child:
        mark = secrets.token_hex(16)
        # Before the child exists: a kill between the two lines leaves a mark to find it by.
        self._write_record(command, {"mark": mark})
        try:
            child = start(command, mark=mark)
        except ProcessError:
            self._record_path(command.name).unlink(missing_ok=True)
            raise
        self._write_record(command, child.to_dict())
        return child

    def _write_record(self, command: Command, fields: dict[str, Any]) -> None:
        record = {"format_version": FORMAT_VERSION, "name": command.name, **fields}
        write_atomic(self._record_path(command.name), json.dumps(record), private=True)

    def _record_path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}.json"

    def _reap(self) -> list[str]:
        with ThreadPoolExecutor(max_workers=16) as pool:
            names = list(pool.map(_end_what_is_left, sorted(self.folder.glob("*.json"))))
        return [name for name in names if name]

    def _watch(self) -> None:
        next_limits = 0.0
        while not self._closing.wait(TICK_S):
            check_limits = time.monotonic() >= next_limits
            if check_limits:
                next_limits = time.monotonic() + LIMITS_EVERY_S
            with self._guard:
                everyone = list(self._watched.values())
            for watched in everyone:
                try:
                    if check_limits and watched.state == "running":
                        _hold_to_limits(watched)
                    with self._guard:
                        status = self._look_after(watched)
                except ProcessError as error:  # one that does not die must not end the watch
                    with self._guard:
                        status = watched.become("exited", error.message)
                if status is not None:
                    self._tell(status)

    def _look_after(self, watched: _Watched) -> Status | None:
        if watched.state == "running" and not watched.child.alive():
            return self._after_end(watched)
        if watched.state == "waiting" and time.monotonic() >= watched.restart_at:
            try:
                watched.child = self._spawn(watched.command)
            except ProcessError as error:
                return watched.become("exited", error.message)
            watched.restarts += 1
            watched.started_at = time.monotonic()
            watched.over_limit = ""
            return watched.become("running")
        return None

    def _after_end(self, watched: _Watched) -> Status:
        watched.child.stop(grace_s=0.0)  # descendants that outlived it
        watched.exit_code = watched.child.exit_code()
        reason = watched.over_limit or _describe(watched.exit_code)
        self._record_path(watched.command.name).unlink(missing_ok=True)
        backoff = watched.backoff
        if backoff is None or (backoff.only_failures and watched.exit_code == 0):
            return watched.become("exited", reason)
        healthy = time.monotonic() - watched.started_at >= backoff.healthy_s
        watched.failures = 1 if healthy else watched.failures + 1
        if watched.failures >= backoff.attempts:
            times = f"; {watched.failures} times in a row" if watched.failures > 1 else ""
            return watched.become("exited", reason + times)
        pause_s = backoff.pause_s(watched.failures)
        watched.restart_at = time.monotonic() + pause_s
        return watched.become("waiting", f"{reason}; starts again in {pause_s:.3g} s")

    def _tell(self, status: Status) -> None:
        if self._on_change is not None:
            self._on_change(status)


def _end_what_is_left(path: Path) -> str:
    """End the process of a record and drop the record; returns the name of one that ran."""
    record = json.loads(path.read_text())
    left = identity.marked(record["mark"])
    if "pid" in record and identity.Identity.from_dict(record).alive():
        left.insert(0, identity.Identity.from_dict(record))
    if left:
        Child(left[0], record["mark"]).stop(grace_s=2.0)
    path.unlink()
    return str(record["name"]) if left else ""


def _hold_to_limits(watched: _Watched) -> None:
    limits = watched.command.limits
    if watched.command.log is not None:
        trim(watched.command.log, limits.log_bytes)
    if limits.memory_bytes is None and limits.processes is None:
        return
    members = identity.glance(watched.child.identity)
    used_bytes = sum(map(identity.memory_bytes, members)) if limits.memory_bytes else 0
    if limits.processes is not None and len(members) > limits.processes:
        watched.over_limit = f"{len(members)} processes, {limits.processes} are allowed"
    elif limits.memory_bytes is not None and used_bytes > limits.memory_bytes:
        watched.over_limit = (
            f"{used_bytes / 2**20:.0f} MiB of memory, "
            f"{limits.memory_bytes / 2**20:.0f} MiB are allowed"
        )
    else:
        return
    watched.child.stop(grace_s=0.0)


def _describe(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended"
    return f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
