"""Writing new files into git: a few as loose objects, many as one pack with two syncs in all.

A pack is written as the contents arrive and becomes part of the repository when its index is in
place. Left out: deltas; what is large does not come this way.
Source: git's documentation of its pack format; measured: benchmarks/results/hub.md.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import pygit2

from triptych.hub.server.storage.git.plumbing import run_git

_LOOSE_FILES = 8
_LOOSE_BYTES = 2**20
_BLOB = 3
_HEADER = b"PACK" + (2).to_bytes(4, "big")
_READ_BYTES = 2**20


class BlobWriter:
    """Take file contents one by one; all of them are in the repository after `finish`."""

    def __init__(self, repository: pygit2.Repository, incoming: Path) -> None:
        self._repository = repository
        self._incoming = incoming
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._taken: set[bytes] = set()
        self._pack: BinaryIO | None = None
        self._packed = 0

    def add(self, content: bytes) -> pygit2.Oid:
        """Take a content and return its id."""
        oid = pygit2.hash(content)
        if oid.raw in self._taken or oid in self._repository:
            return oid
        self._taken.add(oid.raw)
        self._waiting.append(content)
        self._waiting_bytes += len(content)
        if len(self._waiting) > _LOOSE_FILES or self._waiting_bytes > _LOOSE_BYTES:
            self._pack_waiting()
        return oid

    def finish(self) -> None:
        """Put everything into the repository."""
        if self._pack is None:
            for content in self._waiting:
                self._repository.create_blob(content)
            return
        self._pack_waiting()
        name = self._seal(self._pack)
        self._pack.close()
        path = self._path
        run_git("-c", "core.fsync=all", "index-pack", str(path), repository=self._git_folder)
        target = self._git_folder / "objects" / "pack"
        # The index last: with it the pack exists.
        path.rename(target / f"pack-{name}.pack")
        path.with_suffix(".idx").rename(target / f"pack-{name}.idx")
        for left in self._incoming.glob(f"{path.stem}.*"):
            left.unlink()
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def abandon(self) -> None:
        """Forget what came; safe after `finish`."""
        if self._pack is not None:
            self._pack.close()
            self._path.unlink(missing_ok=True)

    @property
    def _git_folder(self) -> Path:
        return Path(self._repository.path)

    @property
    def _path(self) -> Path:
        assert self._pack is not None
        return Path(self._pack.name)

    def _pack_waiting(self) -> None:
        if self._pack is None:
            # Beside the other packs, so that the last step is a rename.
            path = self._incoming / f"{os.urandom(8).hex()}.pack"
            self._pack = path.open("w+b")
            self._pack.write(_HEADER + bytes(4))
        for content in self._waiting:
            self._pack.write(_entry_header(len(content)))
            self._pack.write(zlib.compress(content, 1))
        self._packed += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _seal(self, pack: BinaryIO) -> str:
        pack.seek(len(_HEADER))
        pack.write(self._packed.to_bytes(4, "big"))
        pack.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        while block := pack.read(_READ_BYTES):
            digest.update(block)
        pack.write(digest.digest())
        pack.flush()
        os.fsync(pack.fileno())
        return digest.hexdigest()


def _entry_header(size: int) -> bytes:
    first = (_BLOB << 4) | (size & 15)
    size >>= 4
    header = bytearray()
    while size:
        header.append(first | 0x80)
        first = size & 0x7F
        size >>= 7
    header.append(first)
    return bytes(header)
