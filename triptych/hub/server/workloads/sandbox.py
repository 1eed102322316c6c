"""Isolation by bubblewrap: a workload sees the system's programs, Python, and its own files.

Inside, `/home/user/app` is the workload's tree and the rest of the machine's files, the hub's
data and other workloads' processes do not exist. Where bubblewrap is missing or not permitted
(some containers), a workload runs only when an administrator approved it. The network is
shared: a workload may call out, and reach what listens on this machine.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

import triptych

HOME = Path("/home/user")
# Each of /tmp, /var/tmp and /dev/shm lives in memory, beyond what a workload's own limit counts.
SCRATCH_BYTES = 512 * 2**20
# What programs need from /etc; the rest of it (keys, password hashes) stays outside.
_ETC = (
    "alternatives", "ca-certificates", "fonts", "group", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "passwd", "pki", "protocols",
    "resolv.conf", "services", "ssl", "timezone",
)  # fmt: skip
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt")


@dataclass(frozen=True)
class Workplace:
    """List what a workload may touch: its tree and home to write, other folders to read."""

    app: Path
    home: Path
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Confined:
    """Describe how to start a confined command: arguments, working folder, home inside."""

    arguments: list[str]
    folder: Path
    home: Path


def available() -> bool:
    """Return whether bubblewrap works for this user on this machine."""
    return _works(which("bwrap"))


def confine(arguments: Sequence[str], place: Workplace) -> Confined:
    """Wrap a command so that it reaches nothing but its workplace."""
    program = which("bwrap")
    assert program is not None, "ask available() first"
    options = [
        *("--unshare-user", "--uid", "1000", "--gid", "1000", "--disable-userns"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--hostname", "space", "--cap-drop", "ALL"),
        *_mounts(place),
        *("--chdir", str(HOME / "app")),
    ]
    return Confined([program, *options, "--", *arguments], place.app, HOME)


def unconfined(arguments: Sequence[str], place: Workplace) -> Confined:
    """Start a command with the rights of the hub's own user: only for what an admin approved."""
    return Confined(list(arguments), place.app, place.home)


def base_environment(home: Path, programs: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables a workload starts from: none of the hub's own secrets are in it."""
    kept = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    return {
        **{name: inherited[name] for name in kept if name in inherited},
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "USER": "user",
        "PYTHONUNBUFFERED": "1",
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "MPLCONFIGDIR": str(home / ".cache" / "matplotlib"),
    }


def _mounts(place: Workplace) -> list[str]:
    mounts = ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):  # noqa: S108  inside the sandbox
        mounts += ["--size", str(SCRATCH_BYTES), "--tmpfs", folder]
    for folder in _SYSTEM:
        mounts += _system_folder(Path(folder))
    for name in _ETC:
        mounts += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for device in sorted(Path("/dev").glob("nvidia*")):
        mounts += ["--dev-bind-try", str(device), str(device)]
    mounts += ["--bind", str(place.home), str(HOME), "--bind", str(place.app), str(HOME / "app")]
    for path in _outermost([*_python_folders(), *place.readable]):
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


def _python_folders() -> list[Path]:
    return [
        Path(sys.prefix).resolve(),
        Path(sys.base_prefix).resolve(),
        Path(triptych.__file__).resolve().parent,
    ]


def _outermost(paths: Iterable[Path]) -> list[Path]:
    chosen: list[Path] = []
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        inside = any(path.is_relative_to(other) for other in [*chosen, *map(Path, _SYSTEM)])
        if not inside and path.exists():
            chosen.append(path)
    return chosen


def _hide(path: Path, place: Workplace) -> list[str]:
    """Cover a folder that lies inside one that was let in."""
    shown = [*map(Path, _SYSTEM), *_python_folders(), *place.readable]
    if not any(path.is_relative_to(other) for other in shown):
        return []
    inside = [other for other in place.readable if other.is_relative_to(path)]
    again = [word for other in inside for word in ("--ro-bind", str(other), str(other))]
    return ["--tmpfs", str(path), *again]


@cache
def _works(program: str | None) -> bool:
    if program is None:
        return False
    probe = [program, "--unshare-user", "--unshare-pid", "--disable-userns", "--uid", "1000",
             "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]  # fmt: skip
    try:
        done = subprocess.run(probe, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
