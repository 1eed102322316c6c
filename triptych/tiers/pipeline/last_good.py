"""The last good settings on disk, for a start while the database is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from triptych.errors import StorageError
from triptych.tiers.store import settings

logger = logging.getLogger("triptych.gateway")

#: A file up to this size is written with every change, a larger one at most every so often.
_SMALL_BYTES = 1_000_000
_PAUSE_S = 30.0


class LastGood:
    """Keep the rows of the last good state in a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_s = 0.0
        self._unsaved: tuple[dict[str, int], settings.Rows] | None = None

    def restore(self) -> settings.Rows:
        """Return the kept rows; none where there is no file."""
        return settings.restore(self._path) or {}

    def keep(self, versions: Mapping[str, int], rows: settings.Rows) -> None:
        """Take a new state; it is on disk within `_PAUSE_S`, at once while the file is small."""
        self._unsaved = dict(versions), rows
        self.save_if_due()

    def save_if_due(self, *, now: bool = False) -> None:
        """Write what was not written yet; a full disk does not undo what took effect."""
        if self._unsaved is None or (not now and time.monotonic() < self._next_s):
            return
        versions, rows = self._unsaved
        try:
            settings.save(self._path, versions, rows)
            self._unsaved = None
            large = self._path.stat().st_size > _SMALL_BYTES
            self._next_s = time.monotonic() + (_PAUSE_S if large else 0.0)
        except (StorageError, OSError) as error:
            logger.warning("the last good settings are not kept: %s", error)
