"""The spool: what happened, on disk before the client hears of it, on its way to the database.

One folder per worker process, held by a lock that dies with it; numbered segments of JSON lines.
A line is one `write` to the operating system, so it survives a killed process (not a power cut).
The database writer reads the same files, so there is no second queue in memory: while the
database is away the spool simply grows, up to a bound beyond which losses are counted.

Line kinds: `s` a request started, `e` it ended, `h` the segment's header. Left out: what the
records mean and how they reach the database (`recorder`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from triptych.durable import FolderLock
from triptych.errors import StorageError
from triptych.wire.lenient_json import clean_dumps

logger = logging.getLogger("triptych.gateway.record")

FORMAT_VERSION = 1
#: One descriptor to write the next segment and one to read it.
_SPARES = 2
SEGMENT_BYTES = 8 * 1024 * 1024
_HELD_LINES = 10_000
_ENDED = b'{"k":"e"'

Cursor = tuple[int, int, int]
"""Segment, offset in it, and how many lines of those held in memory were taken."""


class Spool:
    """Append records and read them back in order."""

    def __init__(
        self, root: Path, *, max_bytes: int = 512 * 1024 * 1024, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = Path(root) / f"{os.getpid()}-{secrets.token_hex(4)}"
        self.folder.mkdir(parents=True, mode=0o700)
        self._lock = FolderLock(self.folder / "lock").acquire()
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._open_starts: dict[str, bytes] = {}
        self._held: deque[bytes] = deque()
        self._held_before = 0
        self.lost = 0
        """End records that could be stored neither on disk nor in memory."""
        self._written = 0
        self._sealed_bytes = 0
        self.waiting_since_s: float | None = None
        """Monotonic seconds at which the oldest record that was not taken came; None: all were."""
        self._read_s = 0.0
        self._number = 0
        self._handle = -1
        self._spares: list[int] = []
        self._segment = _Segment(self._open)
        self._read_number = 1
        self._read_offset = 0
        self._next_segment()
        self._hold_back()

    def start(self, record: dict[str, Any]) -> None:
        """Note that a request started, so that a crash leaves a trace of it."""
        line = clean_dumps({"k": "s", **record}) + b"\n"
        self._open_starts[record["request_id"]] = line
        self._append(line)

    def end(self, record: dict[str, Any]) -> None:
        """Note how it ended; after this returns the answer may be handed out."""
        self._open_starts.pop(record["request_id"], None)
        if self.waiting_since_s is None:
            self.waiting_since_s = time.monotonic()
        self._append(clean_dumps({"k": "e", **record}) + b"\n")

    def _append(self, line: bytes) -> None:
        if self._held:
            self._release_held()
        if self._held or not self._write(line):
            self._hold(line)

    def _write(self, line: bytes) -> bool:
        if self._sealed_bytes + self._written + len(line) > self._max_bytes:
            return False
        try:
            done = os.write(self._handle, line)
        except OSError:
            return False
        if done < len(line):
            # A full disk took half a line: cut it off, so that the next one starts clean.
            os.ftruncate(self._handle, self._written)
            return False
        self._written += done
        if self._written >= self._segment_bytes:
            self._next_segment()
        return True

    def _hold(self, line: bytes) -> None:
        """Keep a line in memory while the disk is full; the oldest go first, counted."""
        self._held.append(line)
        if len(self._held) > _HELD_LINES and self._let_go().startswith(_ENDED):
            self.lost += 1

    def _let_go(self) -> bytes:
        self._held_before += 1
        return self._held.popleft()

    def _release_held(self) -> None:
        while self._held and self._write(self._held[0]):
            self._let_go()

    def _next_segment(self) -> None:
        previous = self._handle
        number = self._number + 1
        try:
            header = orjson.dumps({"k": "h", "format_version": FORMAT_VERSION}) + b"\n"
            carried = b"".join([header, *self._open_starts.values()])
            handle = self._begun(self.folder / f"{number:08d}.log", carried)
        except OSError as error:
            if previous >= 0:
                return  # another segment cannot be made: the old one goes on
            raise StorageError(
                f"the spool {self.folder} cannot be written",
                hint="free some space or point TRIPTYCH_HOME elsewhere",
            ) from error
        if previous >= 0:
            os.close(previous)
        self._sealed_bytes += self._written
        self._number, self._handle, self._written = number, handle, len(carried)

    def _begun(self, path: Path, carried: bytes) -> int:
        """Make a segment with its first lines, or leave nothing of it.

        Raises: OSError.
        """
        handle = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            done = os.write(handle, carried)
            if done < len(carried):
                raise OSError(errno.ENOSPC, "the disk took a part of the first lines")
        except OSError:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        return handle

    def _open(self, path: Path, flags: int) -> int:
        """Open a file, with a descriptor held back for it where the process has no other left.

        Raises: OSError.
        """
        try:
            return os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._spares:
                raise
        os.close(self._spares.pop())
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def _hold_back(self) -> None:
        """Hold descriptors back for the next segment: one to write it, one to read it."""
        with contextlib.suppress(OSError):
            while len(self._spares) < _SPARES:
                self._spares.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def roll(self) -> None:
        """Begin a new segment, so that the present one is deleted once it has been read."""
        self._next_segment()

    def read(self, limit: int) -> tuple[list[dict[str, Any]], Cursor]:
        """Read the next end records, at most `limit` lines on from the cursor.

        What a full disk left in memory comes after what is on disk.

        Returns: the records and the cursor to hand to `advance` once they are safe.
        """
        self._read_s = time.monotonic()
        self._hold_back()
        if self._held:
            self._release_held()
        number, offset = self._read_number, self._read_offset
        records: list[dict[str, Any]] = []
        while len(records) < limit:
            path = self.folder / f"{number:08d}.log"
            lines, offset = self._segment.lines(path, offset, limit)
            records += self._parsed(lines)
            if lines:
                continue
            if number >= self._number:
                break
            number, offset = number + 1, 0
        held = 0
        if not records and self._held:
            lines = list(islice(self._held, limit))
            records = self._parsed(lines)
            held = self._held_before + len(lines)
        return records, (number, offset, held)

    def _parsed(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """Read the records of lines; a damaged line is counted and holds up no other."""
        found = []
        for line in lines:
            if not line.startswith(_ENDED):
                continue
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                self.lost += 1
                logger.error("a damaged line of the spool %s is left out", self.folder)
        return found

    def advance(self, cursor: Cursor) -> None:
        """Forget everything before the cursor."""
        number, offset, held = cursor
        while self._read_number < number:
            path = self.folder / f"{self._read_number:08d}.log"
            if path.exists():
                self._sealed_bytes -= path.stat().st_size
                path.unlink()
            self._read_number += 1
        self._read_offset = offset
        while self._held_before < held and self._held:
            self._let_go()
        done = number >= self._number and offset >= self._written and not self._held
        self.waiting_since_s = None if done else self.waiting_since_s and self._read_s

    @property
    def backlog_bytes(self) -> int:
        """Bytes on disk that the database does not have yet."""
        ahead = self._written if self._read_number == self._number else 0
        waiting = ahead - self._read_offset if ahead else self._written
        return max(0, self._sealed_bytes + waiting)

    @property
    def in_flight(self) -> int:
        """Requests that started and did not end."""
        return len(self._open_starts)

    def close(self, *, drained: bool) -> None:
        """Let go; a drained spool leaves nothing behind."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._segment.close()
        while self._spares:
            os.close(self._spares.pop())
        if drained and not self._held:
            _remove(self.folder)
        self._lock.release()


class _Segment:
    """Read lines of one segment after the other, through a descriptor that stays open."""

    def __init__(self, open_file: Callable[[Path, int], int]) -> None:
        self._open = open_file
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def lines(self, path: Path, offset: int, limit: int) -> tuple[list[bytes], int]:
        """Return whole lines from an offset on, and the offset after them."""
        if self._file is None or self._path != path:
            self.close()
            try:
                self._file, self._path = os.fdopen(self._open(path, os.O_RDONLY), "rb"), path
            except FileNotFoundError:
                return [], offset
        lines: list[bytes] = []
        self._file.seek(offset)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            lines.append(line)
            offset += len(line)
            if len(lines) >= limit:
                break
        return lines, offset

    def close(self) -> None:
        """Close the segment."""
        if self._file is not None:
            self._file.close()
        self._file = self._path = None


def orphans(root: Path) -> Iterator[tuple[Path, FolderLock]]:
    """Yield the folders that dead workers left, each held while it is looked at."""
    if not Path(root).is_dir():
        return
    for folder in sorted(path for path in Path(root).iterdir() if path.is_dir()):
        lock = FolderLock(folder / "lock")
        try:
            lock.acquire()
        except StorageError:
            continue
        try:
            yield folder, lock
        finally:
            lock.release()


def left_behind(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a dead worker's spool.

    Returns: the end records, and the start records that have no end.
    """
    ends: dict[str, dict[str, Any]] = {}
    starts: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.log")):
        for line in path.read_bytes().splitlines():
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # the last line of a process that was killed while writing it
            if record["k"] == "e":
                ends[record["request_id"]] = record
            elif record["k"] == "s":
                starts[record["request_id"]] = record
    return list(ends.values()), [r for i, r in starts.items() if i not in ends]


def _remove(folder: Path) -> None:
    for path in folder.glob("*.log"):
        path.unlink(missing_ok=True)
    (folder / "lock").unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        return


remove = _remove
