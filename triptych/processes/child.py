"""One child: a process group of its own, with a log file, that outlives who started it.

Standard output and error go straight into the log file, so nothing is lost and nothing blocks
when the starter dies. `Child.to_dict` is what has to be remembered to find the child again.
Left out: watching and restarting (`supervisor.py`).
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from triptych.config import environment
from triptych.errors import ProcessError
from triptych.processes.identity import MARK, Identity, family, marked

POLL_S = 0.02
KILL_WAIT_S = 10.0


@dataclass(frozen=True)
class Limits:
    """Bound what a child and its descendants may use together; None does not bound."""

    memory_bytes: int | None = None
    processes: int | None = None
    log_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class Command:
    """A child to start: a unique name, the arguments, the folder, the environment, the limits.

    `environment` is the whole environment of the child; None inherits ours. With `log` None it
    writes to our own standard output and error. `inherited` are file descriptors, such as a
    listening socket, that stay open in the child under the same number. `grace_s` is the time
    between SIGTERM and SIGKILL.
    """

    name: str
    arguments: Sequence[str]
    log: Path | None
    folder: Path | None = None
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    limits: Limits = Limits()
    grace_s: float = 10.0
    inherited: Sequence[int] = ()


class Child:
    """A started process group, ours or found again from its record."""

    def __init__(
        self, identity: Identity, mark: str, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.identity = identity
        self.mark = mark
        self._process = process

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Child:
        """Find a child again that another process started."""
        return cls(Identity.from_dict(record), str(record["mark"]))

    def to_dict(self) -> dict[str, Any]:
        """Write down what finds the child again."""
        return {**self.identity.to_dict(), "mark": self.mark}

    @property
    def pid(self) -> int:
        """Return the pid, which is also the number of the process group."""
        return self.identity.pid

    def alive(self) -> bool:
        """Return whether the process still runs."""
        if self._process is not None:
            return self._process.poll() is None
        return self.identity.alive()

    def exit_code(self) -> int | None:
        """Return how it ended, negative for a signal; None while it runs, or if not our child."""
        return self._process.poll() if self._process is not None else None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; say whether it came in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.alive():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the process alone, so that what it started is there while it saves."""
        self.identity.signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it and its descendants stand still, keeping their memory, until `thaw`."""
        frozen: set[Identity] = set()
        while new := set(family(self.identity)) - frozen:  # what a parent started meanwhile
            for one in new:
                one.signal(signal.SIGSTOP)
            frozen |= new

    def thaw(self) -> None:
        """Let what stands still go on."""
        for one in family(self.identity):
            one.signal(signal.SIGCONT)

    def stop(self, grace_s: float = 10.0) -> None:
        """End the whole group: SIGTERM, and SIGKILL to whatever is left after the grace.

        Descendants that left the group are found by the mark they inherited.

        Raises: ProcessError when even SIGKILL did not end it (a process stuck in the kernel).
        """
        known = family(self.identity)
        self.identity.signal_group(signal.SIGTERM)
        for one in known:  # a frozen one could not hear it
            one.signal(signal.SIGCONT)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and (self.alive() or any(one.alive() for one in known)):
            time.sleep(POLL_S)
        deadline = time.monotonic() + KILL_WAIT_S
        while self._kill_what_is_left(known):
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"process {self.pid} does not die",
                    hint=f"see what it waits for: ps -o stat,wchan {self.pid}",
                )
            time.sleep(POLL_S)

    def _kill_what_is_left(self, known: Iterable[Identity]) -> bool:
        self.identity.signal_group(signal.SIGKILL)
        killed = [one.signal(signal.SIGKILL) for one in {*known, *marked(self.mark)}]
        return any(killed) or self.alive()


def start(command: Command, *, mark: str | None = None) -> Child:
    """Start a command in a session of its own, its output appended to its log file.

    Raises: ProcessError when the program does not exist or cannot be run.
    """
    mark = mark or secrets.token_hex(16)
    variables = environment.snapshot() if command.environment is None else command.environment
    with _output(command.log) as log:
        try:
            process = subprocess.Popen(
                list(command.arguments),
                cwd=command.folder,
                env={**variables, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if log is None else subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.inherited,
            )
        except OSError as error:
            program = command.arguments[0]
            raise ProcessError(
                f"cannot start {command.name}: {program}: {error.strerror}",
                hint="check that the program is installed and may be executed"
                if shutil.which(program) is None
                else f"check the folder {command.folder}",
            ) from error
    _set_walls(process.pid, command.limits)
    identity = Identity.of(process.pid)
    # An unwaited child keeps its entry in the process table, so it has an identity even when dead.
    assert identity is not None
    return Child(identity, mark, process)


def _output(path: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    if path is None:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def _set_walls(pid: int, limits: Limits) -> None:
    """Set what the kernel enforces: no core files (they hold secrets), and a memory wall."""
    if not hasattr(resource, "prlimit"):
        return
    try:
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        if limits.memory_bytes is not None:
            # The watch enforces the limit itself; the wall stops what grows faster than it looks.
            wall = 2 * limits.memory_bytes + 2**30
            resource.prlimit(pid, resource.RLIMIT_DATA, (wall, wall))
    except (ProcessLookupError, PermissionError):
        pass


def trim(log: Path, limit_bytes: int) -> None:
    """Drop the older part of a log that outgrew its limit; the writer goes on appending."""
    if not log.exists() or log.stat().st_size <= limit_bytes:
        return
    with log.open("rb") as file:
        file.seek(-(limit_bytes // 2), os.SEEK_END)
        file.readline()
        tail = file.read()
    os.truncate(log, 0)
    with log.open("ab") as file:
        file.write(b"[older lines dropped]\n" + tail)
