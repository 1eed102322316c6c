"""Moving bytes between sockets and disk in blocks large enough to be worth a thread."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Protocol, Self

# What fits into a processor's cache is hashed and written from there.
BLOCK_BYTES = 2**20
# As many as requests that receive a body at once.
HASHING_THREADS = 16
_PAGE_BYTES = 4096
_hands = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="hashing")


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, block: memoryview, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all that was taken."""
        ...

    def copy(self) -> Self:
        """Return another that goes on from here."""
        ...


def new_block() -> memoryview:
    """Return memory for a block, aligned to a page as O_DIRECT requires."""
    return memoryview(mmap.mmap(-1, BLOCK_BYTES))


def read_file(path: Path, start: int, length: int) -> Iterator[bytes]:
    """Yield a range of a file."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while length > 0:
            block = file.read(min(BLOCK_BYTES, length))
            if not block:
                return
            length -= len(block)
            yield block


class StraightWriter:
    """Write blocks whole; large ones straight to the disk, where the file system can.

    Copying them into the page cache first costs as much time as hashing them, and the last sync
    would wait for what is still there.
    """

    def __init__(self, file: FileIO, start: int = 0, digest: Digest | None = None) -> None:
        self._file = file
        self._at = start
        self._digest = digest
        self._straight = False
        self._able = hasattr(os, "O_DIRECT")

    def write(self, block: memoryview) -> None:
        """Write all of a block, and hash it beside that where a digest was given."""
        if self._digest is None:
            self._write(block)
        elif len(block) < BLOCK_BYTES:
            self._digest.update(block)
            self._write(block)
        else:
            hashing = _hands.submit(self._digest.update, block)
            try:
                self._write(block)
            finally:
                hashing.result()

    def _write(self, block: memoryview) -> None:
        # A disk that fills up may take a part of a block without complaint.
        while block:
            self._aim(self._able and not (len(block) % BLOCK_BYTES or self._at % _PAGE_BYTES))
            try:
                taken = self._file.write(block)
            except OSError as error:
                if not self._straight or error.errno != errno.EINVAL:
                    raise
                self._able = False  # memory, place or file system do not allow it
                continue
            self._at += taken
            block = block[taken:]

    def _aim(self, straight: bool) -> None:
        """Go past the page cache from the next write on, or no longer."""
        if straight == self._straight:
            return
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags ^ os.O_DIRECT)
        except OSError:
            self._able = False
        else:
            self._straight = straight


def put_in_place(temporary: Path, target: Path) -> None:
    """Rename a synced file to its final name, so that the name survives power loss."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.chmod(0o444)
    temporary.replace(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
