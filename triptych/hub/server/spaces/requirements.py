"""Requirements of a Space: met by the running environment, or by one built on top of it.

An environment of a Space sees everything the running one has and adds or replaces what its
requirements ask for, so that nothing large is installed twice. It is kept under a hash of what
went into it and shared, read-only, by all Spaces that ask for the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

FILES = ("pre-requirements.txt", "requirements.txt")


@dataclass(frozen=True)
class Requirements:
    """Hold the lines of a Space's requirement files."""

    lines: tuple[str, ...]
    files: tuple[Path, ...]

    @classmethod
    def read(cls, folder: Path) -> Requirements:
        """Collect what a tree asks for."""
        files = tuple(path for name in FILES if (path := folder / name).is_file())
        raw = [line for path in files for line in path.read_text(errors="replace").splitlines()]
        stripped = (line.split(" #")[0].strip() for line in raw)
        return cls(tuple(line for line in stripped if line and not line.startswith("#")), files)

    def unmet(self) -> list[str]:
        """List the lines the running environment does not satisfy."""
        return [line for line in self.lines if not _met(line)]

    def key(self, tree: str) -> str:
        """Return the name of the environment that satisfies these lines.

        Lines that reach into the tree or elsewhere (paths, options, links) tie it to that tree.
        """
        private = any(_parse(line) is None for line in self.lines)
        parts = [sys.version, *self.lines, tree if private else "", *_installed()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def running_python() -> Path:
    """Return the interpreter of the running environment."""
    return Path(sys.executable)


def is_running_version(wanted: str) -> bool:
    """Return whether a version such as `3.11` or `3.11.4` is the running one, to its minor part."""
    parts = wanted.strip().split(".")[:2]
    return parts == [str(part) for part in sys.version_info[: len(parts)]]


def lay_foundation(environment: Path) -> list[str]:
    """Return the command that creates an empty environment, with pip where this one has none."""
    options = ["--without-pip"] if _has_pip() else []
    return [sys.executable, "-m", "venv", *options, str(environment)]


def add_running_packages(environment: Path) -> None:
    """Let an environment see what the running one has, behind its own packages."""
    inside = _site_packages(environment)
    paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    # .pth files of the running environment (editable installs) are honoured only for site folders.
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in paths)
    (inside / "zz_running_environment.pth").write_text(lines)


def install(environment: Path, needed: Requirements) -> list[list[str]]:
    """Return the commands that install what a Space's requirements ask for, file by file."""
    python = str(environment / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python] if _has_pip() else [python, "-m", "pip"]
    options = ["--disable-pip-version-check", "--no-input", "install", "--no-cache-dir",
               "--no-warn-script-location"]  # fmt: skip
    return [[*pip, *options, "-r", path.name] for path in needed.files]


def _has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def _met(line: str) -> bool:
    requirement = _parse(line)
    return requirement is not None and _satisfied(requirement, frozenset())


def _satisfied(requirement: Requirement, seen: frozenset[tuple[str, str]], extra: str = "") -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return True
    try:
        found = importlib.metadata.distribution(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(found.version, prereleases=True):
        return False
    for wanted in requirement.extras:
        asked = (canonicalize_name(requirement.name), wanted)
        if asked in seen:
            continue
        inner = (Requirement(line) for line in found.requires or () if "extra" in line)
        if not all(_satisfied(one, seen | {asked}, wanted) for one in inner):
            return False
    return True


def _parse(line: str) -> Requirement | None:
    """Read a plain requirement; None for options, links and paths."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    return None if requirement.url else requirement


def _installed() -> list[str]:
    found = importlib.metadata.distributions()
    return sorted({f"{one.name}=={one.version}" for one in found if one.name})


def _site_packages(environment: Path) -> Path:
    base = str(environment)
    return Path(sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base}))
