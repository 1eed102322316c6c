"""Large files by their sha256: verified while they stream in, synced, then renamed into place.

A file is either here as it is, or rebuilt from Xet blocks (`xet.store`). Having a file and being
allowed to use it are two things: `repository_objects` says which repositories were given which
file, so that knowing a hash is never enough to read what it stands for.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from triptych.durable import require_free_space
from triptych.errors import EntryNotFound, HubRefused
from triptych.hub.server.database import Database
from triptych.hub.server.layout import Layout
from triptych.hub.server.storage.content.blocks import StraightWriter, put_in_place, read_file
from triptych.hub.server.storage.content.xet_store import XetStore


class Incoming:
    """Receive one file of a promised hash and size, block by block."""

    def __init__(self, layout: Layout, sha256: str, size: int) -> None:
        require_free_space(layout.incoming, size)
        self.sha256 = sha256
        self.size = size
        self.received = 0
        self._hash = hashlib.sha256()
        self._target = layout.object(sha256)
        self._temporary = layout.temporary()
        self._file = self._temporary.open("wb", buffering=0)
        self._writer = StraightWriter(self._file, digest=self._hash)

    def write(self, block: memoryview) -> None:
        """Take the next block.

        Raises: HubRefused (413) as soon as more comes than was promised.
        """
        self.received += len(block)
        if self.received > self.size:
            raise HubRefused(413, f"More bytes arrived than the {self.size} that were announced")
        self._writer.write(block)

    def finish(self) -> None:
        """Put the file into place.

        Raises: HubRefused (422) when the bytes are not those that were promised.
        """
        if self.received != self.size:
            raise HubRefused(
                422, f"{self.received} bytes arrived of the {self.size} that were announced"
            )
        if self._hash.hexdigest() != self.sha256:
            raise HubRefused(422, f"The bytes do not have the sha256 {self.sha256}")
        os.fsync(self._file.fileno())
        self._file.close()
        put_in_place(self._temporary, self._target)

    def abandon(self) -> None:
        """Forget what came; safe after `finish`."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class ObjectStore:
    """Keep large files and say which repositories have them."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self.layout = layout
        self.database = database
        self.xet = XetStore(layout, database)

    def receive(self, sha256: str, size: int) -> Incoming:
        """Start receiving a file."""
        return Incoming(self.layout, sha256, size)

    def grant(self, repository_id: int, sha256: str, size: int) -> None:
        """Record that a repository was given a file that is in place now."""
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO objects (sha256, size, touched_at) VALUES (?, ?, ?)"
                " ON CONFLICT (sha256) DO UPDATE SET touched_at = excluded.touched_at",
                (sha256, size, time.time()),
            )
            connection.execute(
                "INSERT OR IGNORE INTO repository_objects (repository_id, sha256) VALUES (?, ?)",
                (repository_id, sha256),
            )

    def grant_known(self, repository_id: int, sha256s: list[str]) -> None:
        """Record that a repository may use files that are in place already."""
        with self.database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO repository_objects (repository_id, sha256) VALUES (?, ?)",
                [(repository_id, sha256) for sha256 in sha256s],
            )
            connection.executemany(
                "UPDATE objects SET touched_at = ? WHERE sha256 = ?",
                [(time.time(), sha256) for sha256 in sha256s],
            )

    def holders(self, sha256: str) -> tuple[int, list[int]] | None:
        """Return a file's size and the repositories that have it, or None when it is not here."""
        row = self.database.one("SELECT size FROM objects WHERE sha256 = ?", sha256)
        if row is None:
            return None
        holders = self.database.query(
            "SELECT repository_id FROM repository_objects WHERE sha256 = ?", sha256
        )
        return row["size"], [holder["repository_id"] for holder in holders]

    def xet_hashes(self, sha256s: list[str]) -> dict[str, str]:
        """Return the Xet hash of those files that came over the Xet protocol."""
        rows = self.database.query(
            "SELECT sha256, xet_hash FROM objects WHERE xet_hash IS NOT NULL"
            " AND sha256 IN (SELECT value FROM json_each(?))",
            json.dumps(sha256s),
        )
        return {row["sha256"]: row["xet_hash"] for row in rows}

    def touch(self, sha256: str) -> bool:
        """Keep a file from being collected for another while; False when it is not here."""
        return (
            self.database.write(
                "UPDATE objects SET touched_at = ? WHERE sha256 = ?", time.time(), sha256
            )
            > 0
        )

    def path(self, sha256: str) -> Path | None:
        """Return the file itself where it is kept whole."""
        path = self.layout.object(sha256)
        return path if path.exists() else None

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        """Yield a range of a file in blocks of about a megabyte.

        Raises: EntryNotFound when the file is not here.
        """
        path = self.path(sha256)
        if path is None:
            return self.xet.read(sha256, start, length)
        return read_file(path, start, length)

    def copy_to(self, sha256: str, target: Path) -> None:
        """Write a file to a place outside the store, as a Space's folder."""
        row = self.database.one("SELECT size FROM objects WHERE sha256 = ?", sha256)
        if row is None:
            raise EntryNotFound(f"The large file {sha256} is not on this hub")
        with target.open("wb") as file:
            for block in self.read(sha256, 0, row["size"]):
                file.write(block)
