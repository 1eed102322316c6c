"""Which isolation holds on this machine, and starting a workload under it.

In this order: bubblewrap where it works; else Landlock, which needs no program and no right; else
nothing is isolated, and only what an administrator pushed or approved may run (`Mode` names the
three). One of them is chosen when the hub starts and holds until it stops.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from triptych.config.hub import HubConfig
from triptych.errors import ConfigError
from triptych.hub.server.workloads import bubblewrap, landlock
from triptych.hub.server.workloads.workplace import (
    ETC,
    SYSTEM,
    Confined,
    Workplace,
    outermost,
    python_folders,
)

# User ids a hub of root gives to workloads, one by their folder. None of them is a person's.
_FIRST_UID, _UIDS = 61200, 4000
# Landlock restricts signals from here on; before, only another user id keeps them in.
_SIGNALS_ABI, _PORTS_ABI = 6, 4
_PROC = ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "sys/kernel",
         "sys/vm/overcommit_memory")  # fmt: skip
_DEVICES = ("full", "null", "random", "urandom", "zero")
# Another TMPDIR than /tmp, which workloads would share.
_SCRATCH = "tmp"
INSTALL = (
    "install bubblewrap (apt install bubblewrap)"
    if sys.platform.startswith("linux")
    else "run the hub on Linux"
)


class Mode(StrEnum):
    """Name what keeps workloads apart."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    APPROVED_ONLY = "approved-only"


@dataclass(frozen=True)
class Isolation:
    """Start workloads under one of the modes.

    `detail` says what is particular here. `elsewhere` is set when workloads run as other users
    than the hub's: the folder of their files, since they could not reach the hub's own.
    """

    mode: Mode
    detail: str = ""
    elsewhere: Path | None = None

    @property
    def isolates(self) -> bool:
        """Return whether workloads are kept apart from the hub and from each other."""
        return self.mode is not Mode.APPROVED_ONLY

    @property
    def summary(self) -> str:
        """Return one line for everyone: what holds."""
        if self.mode is Mode.APPROVED_ONLY:
            return (
                "Spaces and jobs are not isolated here: only what an administrator of this hub"
                " pushed, approved or started may run"
            )
        name = "bubblewrap" if self.mode is Mode.BUBBLEWRAP else "Landlock"
        return f"Spaces and jobs are isolated by {name}"

    def describe(self) -> str:
        """Return the line for the machine's owner: what holds, and why not more."""
        return f"{self.summary} ({self.detail})" if self.detail else self.summary

    def to_dict(self) -> dict[str, str | bool]:
        """Return what the API says of it; folders of the machine are not for everyone."""
        return {"mode": self.mode.value, "isolated": self.isolates, "description": self.summary}

    def confine(self, arguments: Sequence[str], place: Workplace) -> Confined:
        """Wrap a command; the folders it writes become its own where it is another user."""
        if self.mode is Mode.BUBBLEWRAP:
            return bubblewrap.confine(arguments, place)
        if self.mode is Mode.LANDLOCK:
            return self._under_landlock(arguments, place)
        return Confined(list(arguments), place.app, place.home)

    def folder(self, usual: Path) -> Path:
        """Return where the files of workloads go, `usual` if they can reach it; it exists then."""
        folder = usual if self.elsewhere is None else self.elsewhere / usual.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _under_landlock(self, arguments: Sequence[str], place: Workplace) -> Confined:
        uid = _uid(place.app) if self.elsewhere is not None else None
        scratch = place.home / _SCRATCH
        if not scratch.exists():
            scratch.mkdir()
            if uid is not None:
                _hand_over(scratch, uid)
        if self.elsewhere is not None and uid is not None:
            for folder in (place.app, place.home, *place.writable):
                _let_through(folder, self.elsewhere)
                _hand_over(folder, uid)
        command = [*_launcher(_spec(place, uid)), *arguments]
        return Confined(command, place.app, place.home, {"TMPDIR": str(scratch)})


def choose(config: HubConfig) -> Isolation:
    """Return the isolation of a hub: the best that works, or the mode its setting names.

    Raises: ConfigError when the wanted mode does not work on this machine.
    """
    wanted: str = config.isolation
    if wanted == Mode.APPROVED_ONLY:
        return Isolation(Mode.APPROVED_ONLY, "hub.isolation asks for it")
    reasons: list[str] = []
    if wanted in ("auto", Mode.BUBBLEWRAP):
        reason = bubblewrap.why_not()
        if not reason:
            return Isolation(Mode.BUBBLEWRAP)
        reasons.append(reason)
    if wanted in ("auto", Mode.LANDLOCK):
        found = _landlock(config)
        if isinstance(found, Isolation):
            return found
        reasons.append(found)
    if wanted != "auto":
        raise ConfigError(
            f"hub.isolation={wanted} does not work on this machine: {reasons[0]}",
            hint=f"set hub.isolation=auto, or {INSTALL}",
        )
    return Isolation(Mode.APPROVED_ONLY, "; ".join(reasons))


def _landlock(config: HubConfig) -> Isolation | str:
    """Return Landlock's isolation, or why there is none."""
    version = landlock.abi()
    if version == 0:
        return "this system has no Landlock"
    ports = "" if version >= _PORTS_ABI else "; this kernel lets them listen on any port"
    if os.geteuid() == 0:
        elsewhere = _elsewhere(config)
        closed = _closed_folder([*python_folders(), elsewhere / "spaces"])
        if closed is None and _works(_FIRST_UID):
            return Isolation(Mode.LANDLOCK, f"each as another user{ports}", elsewhere)
        own = "as the hub's own user without capabilities, because"
        own += f" {closed} is closed to others" if closed else " another is not permitted"
    else:
        own = "as the hub's own user"
    if version < _SIGNALS_ABI:
        return f"Landlock of this kernel (version {version}) does not keep signals in"
    if not _works(None):
        return "Landlock is not permitted here"
    return Isolation(Mode.LANDLOCK, own + ports)


def _works(uid: int | None) -> bool:
    """Return whether a Python starts under Landlock, in the way every workload does."""
    here = Path(landlock.__file__).parent
    spec = _spec(Workplace(here, here), uid) | {"write": []}
    command = [*_launcher(spec), sys.executable, "-I", "-c", "import ssl"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _elsewhere(config: HubConfig) -> Path:
    """Return the folder of a root hub's workloads; one per hub, since two may run here."""
    if config.workload_folder:
        return Path(config.workload_folder).expanduser()
    return Path("/var/lib/triptych", f"{zlib.crc32(str(config.folder()).encode()):08x}")


def _closed_folder(paths: Iterable[Path]) -> Path | None:
    """Return a folder on the way to one of the paths that other users may not enter."""
    for path in paths:
        for folder in path.resolve().parents:
            if folder.exists() and not folder.stat().st_mode & 0o001:
                return folder
    return None


def _uid(app: Path) -> int:
    """Return the user id of a workload: the same for all that runs in one folder.

    Two workloads that meet on one id are still kept apart by Landlock.
    """
    return _FIRST_UID + zlib.crc32(str(app).encode()) % _UIDS


def _launcher(spec: dict[str, object]) -> list[str]:
    return [sys.executable, "-I", "-S", landlock.__file__, json.dumps(spec)]


def _spec(place: Workplace, uid: int | None) -> dict[str, object]:
    let_in = [*python_folders(), *place.readable]
    inside = [path for path in let_in if any(map(path.is_relative_to, place.hidden))]
    shown = [*SYSTEM, *outermost(let_in)]
    read = [part for path in shown for part in _without(path, place.hidden)]
    read += [*inside, *(Path("/etc", name) for name in ETC), *(Path("/proc", n) for n in _PROC)]
    devices = [*(Path("/dev", name) for name in _DEVICES), *sorted(Path("/dev").glob("nvidia*"))]
    return {
        "read": [str(path) for path in read],
        "write": [str(path) for path in (place.app, place.home, *place.writable)],
        "devices": [str(path) for path in devices],
        # As one user, workloads would open each other's shared memory by name.
        "shared": ["/dev/shm"] if uid is not None else [],  # noqa: S108
        "ports": list(place.ports),
        "uid": uid,
    }


def _without(path: Path, hidden: Sequence[Path]) -> list[Path]:
    """Return what is beneath a folder without the hidden parts: rules can only add."""
    real = path.resolve()
    covered = [other.resolve() for other in hidden]
    if any(real.is_relative_to(other) for other in covered):
        return []
    if not any(other.is_relative_to(real) for other in covered):
        return [path]
    children = (child for child in sorted(real.iterdir()) if not child.is_symlink())
    return [part for child in children for part in _without(child, hidden)]


def _let_through(folder: Path, top: Path) -> None:
    """Let other users pass, but not list, the folders on the way to one."""
    for parent in folder.parents:
        if parent.is_relative_to(top):
            parent.chmod(0o711)


def _hand_over(folder: Path, uid: int) -> None:
    """Make a tree the workload's own, once, before anything of it ran.

    Later its contents are not to be trusted: a link in it could lead anywhere.
    """
    if folder.stat().st_uid == uid:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), uid, uid, follow_symlinks=False)
    os.chown(folder, uid, uid)
