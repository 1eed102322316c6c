"""What a workload may touch, and the environment it starts from, whatever isolates it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import triptych

# What programs need from /etc; the rest of it (keys, password hashes) stays outside.
ETC = (
    "alternatives", "ca-certificates", "fonts", "group", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "passwd", "pki", "protocols",
    "resolv.conf", "services", "ssl", "timezone",
)  # fmt: skip
SYSTEM = tuple(Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt"))


@dataclass(frozen=True)
class Workplace:
    """Hold what a workload may touch: its tree and home to write, other folders to read.

    `hidden` folders stay out even where they lie inside a readable one; `ports` are the TCP
    ports it may listen on, where the isolation can restrict that.
    """

    app: Path
    home: Path
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Confined:
    """Hold how to start a confined command.

    `home` is the workload's home as it sees it, `variables` belong in its environment.
    """

    arguments: list[str]
    folder: Path
    home: Path
    variables: dict[str, str] = field(default_factory=dict)


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


def python_folders() -> list[Path]:
    """Return the folders of the running Python and of this package."""
    return [
        Path(sys.prefix).resolve(),
        Path(sys.base_prefix).resolve(),
        Path(triptych.__file__).resolve().parent,
    ]


def outermost(paths: Iterable[Path]) -> list[Path]:
    """Return the existing paths that lie neither in a system folder nor in each other."""
    chosen: list[Path] = []
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        inside = any(path.is_relative_to(other) for other in [*chosen, *SYSTEM])
        if not inside and path.exists():
            chosen.append(path)
    return chosen
