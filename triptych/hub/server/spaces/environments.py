"""Environments of Spaces on disk: kept under a hash of what went into them, shared, read-only.

::

    environments/
      <key>/
        current    the name of the generation in use
        <name>/    a generation: once current, it never changes

A rebuilt environment is another generation, so that apps which run in the old one keep it. What
no app can be using any more is swept when the hub starts.
"""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

from triptych.durable import write_atomic

UNUSED_S = 60 * 86400
_CURRENT = "current"


class Environments:
    """Find, add and sweep environments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def current(self, key: str) -> Path | None:
        """Return the environment in use under a key, and note that it was wanted."""
        pointer = self.folder / key / _CURRENT
        if not pointer.exists():
            return None
        pointer.touch()
        return self.folder / key / pointer.read_text(encoding="ascii").strip()

    def new(self, key: str) -> Path:
        """Make an empty folder for another generation."""
        folder = self.folder / key / secrets.token_hex(4)
        folder.mkdir(parents=True)
        return folder

    def settle(self, key: str, generation: Path) -> None:
        """Make a finished generation the one in use."""
        write_atomic(self.folder / key / _CURRENT, generation.name + "\n")

    def sweep(self) -> None:
        """Remove half-built and replaced generations, and what no Space used for long."""
        for kept in self.folder.iterdir():
            pointer = kept / _CURRENT
            if not pointer.exists() or time.time() - pointer.stat().st_mtime > UNUSED_S:
                shutil.rmtree(kept, ignore_errors=True)
                continue
            in_use = pointer.read_text(encoding="ascii").strip()
            for generation in kept.iterdir():
                if generation.is_dir() and generation.name != in_use:
                    shutil.rmtree(generation, ignore_errors=True)
