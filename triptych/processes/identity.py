"""Which process a number means: a pid together with the moment that process started.

The kernel hands pids out again, so a pid read back from a file may belong to a stranger. Its
start time tells the two apart. Left out: starting and stopping (`child.py`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

MARK = "TRIPTYCH_CHILD"


@dataclass(frozen=True)
class Identity:
    """Name one process for good: no later process with the same pid equals it."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Identify the process that has this pid now, if there is one."""
        started = _started(pid)
        return cls(pid, started) if started else None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Identity:
        """Read an identity back from a file."""
        return cls(int(record["pid"]), str(record["started"]))

    def to_dict(self) -> dict[str, Any]:
        """Write the identity down."""
        return {"pid": self.pid, "started": self.started}

    def alive(self) -> bool:
        """Return whether exactly this process still runs (a zombie does not)."""
        if _started(self.pid) != self.started:
            return False
        try:
            return bool(psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def signal(self, number: int) -> bool:
        """Send a signal to exactly this process; say whether it was there to receive it."""
        try:
            if hasattr(os, "pidfd_open"):
                # The descriptor holds on to one process, so nothing can slip in after the check.
                handle = os.pidfd_open(self.pid)
                try:
                    if self.alive():
                        signal.pidfd_send_signal(handle, number)
                        return True
                finally:
                    os.close(handle)
            elif self.alive():
                os.kill(self.pid, number)
                return True
        except (ProcessLookupError, PermissionError):
            pass
        return False

    def signal_group(self, number: int) -> bool:
        """Send a signal to the process group this process leads, as long as it is there."""
        if _started(self.pid) != self.started:
            return False
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def family(identity: Identity) -> list[Identity]:
    """List a process and all its living descendants."""
    present: set[Identity] = set()
    children: dict[int, list[Identity]] = {}
    for one, parent in _everyone():
        present.add(one)
        children.setdefault(parent, []).append(one)
    members = [identity] if identity in present else []
    for member in members:  # grows while it is walked
        members += children.get(member.pid, ())
    return members


def glance(identity: Identity) -> list[Identity]:
    """List a process and its descendants for a small price; one just born may be missed.

    For repeated polling. To reach every one of them, use `family`.
    """
    if not _lists_children():
        return family(identity)
    members = [identity] if _living(identity.pid) == identity else []
    for member in members:  # grows while it is walked
        members += filter(None, map(_living, _children(member.pid)))
    return members


def marked(mark: str) -> list[Identity]:
    """List every process that inherited a mark in its environment, wherever it moved since."""
    return [identity for identity, value in _marks() if value == mark]


def memory_bytes(identity: Identity) -> int:
    """Measure the memory that belongs to this process alone; mapped files do not count."""
    try:
        memory = psutil.Process(identity.pid).memory_info()
    except psutil.Error:
        return 0
    return max(0, int(memory.rss) - int(getattr(memory, "shared", 0)))


def cpu_seconds(identity: Identity) -> float:
    """Return the processor time a process has used so far."""
    try:
        times = psutil.Process(identity.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _marks() -> Iterator[tuple[Identity, str]]:
    for process in psutil.process_iter():
        try:
            value = process.environ().get(MARK)
        except (psutil.Error, OSError):
            continue
        identity = Identity.of(process.pid) if value else None
        if identity and value:
            yield identity, value


def _everyone() -> Iterator[tuple[Identity, int]]:
    """Yield every living process with the pid of its parent."""
    if _has_proc():
        for pid in psutil.pids():
            fields = _stat(pid)
            if fields and fields[0] != "Z":
                yield Identity(pid, _ticks(fields)), int(fields[1])
        return
    for process in psutil.process_iter(["ppid", "create_time", "status"]):
        known = process.info
        if known["status"] != psutil.STATUS_ZOMBIE and known["ppid"] is not None:
            yield Identity(process.pid, repr(known["create_time"])), known["ppid"]


@cache
def _lists_children() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it ended meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError), (thread / "children").open() as file:
                found += map(int, file.read().split())
    return found


def _living(pid: int) -> Identity | None:
    fields = _stat(pid)
    return Identity(pid, _ticks(fields)) if fields and fields[0] != "Z" else None


def _started(pid: int) -> str | None:
    if _has_proc():
        fields = _stat(pid)
        return _ticks(fields) if fields else None
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name: state, parent, and so on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _ticks(fields: list[str]) -> str:
    # Clock ticks since boot: unlike a wall-clock time they do not move when the clock is set.
    return f"{_boot()}:{fields[19]}"


@cache
def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
