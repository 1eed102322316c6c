"""Isolation by bubblewrap: a workload sees the system's programs, Python, and its own files.

Inside, `/home/user/app` is the workload's tree and the rest of the machine's files, the hub's
data and other workloads' processes do not exist. The network is shared: a workload may call out,
and reach what listens on this machine.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from shutil import which

from triptych.hub.server.workloads.workplace import (
    ETC,
    SYSTEM,
    Confined,
    Workplace,
    outermost,
    python_folders,
)

HOME = Path("/home/user")
# Each of /tmp, /var/tmp and /dev/shm lives in memory, beyond what a workload's own limit counts.
SCRATCH_BYTES = 512 * 2**20


def why_not() -> str:
    """Return why bubblewrap cannot be used by this user on this machine; empty when it can."""
    program = which("bwrap")
    if program is None:
        return "bubblewrap is not installed"
    return "" if _works(program) else "bubblewrap is not permitted here"


def confine(arguments: Sequence[str], place: Workplace) -> Confined:
    """Wrap a command so that it reaches nothing but its workplace."""
    program = which("bwrap")
    assert program is not None, "ask why_not() first"
    options = [
        *("--unshare-user", "--uid", "1000", "--gid", "1000", "--disable-userns"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--hostname", "space", "--cap-drop", "ALL"),
        *_mounts(place),
        *("--chdir", str(HOME / "app")),
    ]
    return Confined([program, *options, "--", *arguments], place.app, HOME)


def _mounts(place: Workplace) -> list[str]:
    mounts = ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):  # noqa: S108  inside the sandbox
        mounts += ["--size", str(SCRATCH_BYTES), "--tmpfs", folder]
    for system in SYSTEM:
        mounts += _system_folder(system)
    for name in ETC:
        mounts += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for device in sorted(Path("/dev").glob("nvidia*")):
        mounts += ["--dev-bind-try", str(device), str(device)]
    mounts += ["--bind", str(place.home), str(HOME), "--bind", str(place.app), str(HOME / "app")]
    for path in outermost([*python_folders(), *place.readable]):
        mounts += ["--ro-bind", str(path), str(path)]
    for path in place.hidden:
        mounts += _hide(path, place)
    for path in place.writable:
        mounts += ["--bind", str(path), str(path)]
    return mounts


def _system_folder(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.is_dir() else []


def _hide(path: Path, place: Workplace) -> list[str]:
    """Cover a folder that lies inside one that was let in."""
    let_in = [*python_folders(), *place.readable]
    if not any(path.is_relative_to(other) for other in [*SYSTEM, *let_in]):
        return []
    inside = [other for other in let_in if other.is_relative_to(path)]
    again = [word for other in inside for word in ("--ro-bind", str(other), str(other))]
    return ["--tmpfs", str(path), *again]


@cache
def _works(program: str) -> bool:
    probe = [program, "--unshare-user", "--unshare-pid", "--disable-userns", "--uid", "1000",
             "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]  # fmt: skip
    try:
        done = subprocess.run(probe, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
