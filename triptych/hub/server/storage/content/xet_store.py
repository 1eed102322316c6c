"""Xet blocks and the files made of them: verified before they exist, read back as plain bytes."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import time
from collections.abc import Iterator, Sequence

from triptych.errors import EntryNotFound, HubRefused
from triptych.hub.server import limits
from triptych.hub.server.database import Database
from triptych.hub.server.layout import Layout
from triptych.hub.server.storage.content import xet_hashes as hashes
from triptych.hub.server.storage.content.blocks import StraightWriter, put_in_place
from triptych.hub.server.storage.content.xet_shard import FileInfo, Term
from triptych.hub.server.storage.content.xet_xorb import (
    HEADER_BYTES,
    Chunk,
    ChunkReader,
    leaves,
    read_header,
    read_table,
    unpack,
    write_table,
)

_TERM = struct.Struct("<32sIII")
_READ_BYTES = 2**20


class IncomingXorb:
    """Receive one block of a promised hash."""

    def __init__(self, layout: Layout, database: Database, name: str) -> None:
        self._name = name
        self._promised = hashes.from_text(name)
        self._database = database
        self._target = layout.xorb(name)
        self._reader = ChunkReader()
        self._temporary = layout.temporary()
        self._file = self._temporary.open("wb", buffering=0)
        self._writer = StraightWriter(self._file)

    def write(self, block: memoryview) -> None:
        """Take the next bytes."""
        self._writer.write(self._reader.feed(block))

    def finish(self) -> None:
        """Put the block into place, then into the database.

        Raises: HubRefused (400) when the bytes are not what was promised.
        """
        # File before row: a crash between them leaves a file that no row names, which collection
        # removes; the other order would leave a row whose bytes do not exist.
        self._reader.finish(self._promised)
        os.fsync(self._file.fileno())
        self._file.close()
        put_in_place(self._temporary, self._target)
        self._database.write(
            "INSERT INTO xorbs (hash, size, chunks, touched_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (hash) DO UPDATE SET touched_at = excluded.touched_at",
            self._name, self._reader.kept_bytes, write_table(self._reader.chunks), time.time(),
        )  # fmt: skip

    def abandon(self) -> None:
        """Forget what came; safe after `finish`."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class XetStore:
    """Keep blocks, and the recipes of files."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self.layout = layout
        self.database = database

    def generation(self) -> str:
        """Return the present name of this store, part of the address clients upload to.

        Clients remember per address which blocks a store has and never ask again, so a store
        that is new, or has lost blocks to collection, needs a new address.
        """
        row = self.database.one("SELECT value FROM facts WHERE name = 'xet_generation'")
        return str(row["value"]) if row else self.renew_generation()

    def renew_generation(self) -> str:
        """Replace the name of this store and return the new one."""
        name = secrets.token_hex(6)
        self.database.write("INSERT OR REPLACE INTO facts VALUES ('xet_generation', ?)", name)
        return name

    def has_xorb(self, name: str) -> bool:
        """Return whether a block is here; asking keeps it from being collected for a while."""
        touched = self.database.write(
            "UPDATE xorbs SET touched_at = ? WHERE hash = ?", time.time(), name
        )
        return touched > 0

    def receive(self, name: str) -> IncomingXorb:
        """Start receiving a block."""
        return IncomingXorb(self.layout, self.database, name)

    def chunks(self, xorb: bytes) -> list[Chunk]:
        """Return what is in a block.

        Raises: HubRefused (400) when the block is not here.
        """
        row = self.database.one("SELECT chunks FROM xorbs WHERE hash = ?", hashes.to_text(xorb))
        if row is None:
            raise HubRefused(400, f"The block {hashes.to_text(xorb)} was not uploaded")
        return read_table(row["chunks"])

    def register(self, repository_id: int, files: Sequence[FileInfo], most_bytes: int) -> None:
        """Take files into a repository, each after its every hash was recomputed.

        Raises: HubRefused (400) at the first claim that is not true, (413) when the files have
            more than `most_bytes` together.
        """
        terms = [term for file in files for term in file.terms]
        limits.require_xet((term.size for term in terms), len(terms), most_bytes)
        for file in files:
            # Hashing takes long and SQLite has one writer, so this is before the transaction.
            sha256, size = self._verify(file)
            name = hashes.to_text(file.hash)
            with self.database.transaction() as connection:
                # In the same transaction: collection must not remove a block between the check
                # above and the row that refers to it.
                connection.executemany(
                    "UPDATE xorbs SET touched_at = ? WHERE hash = ?",
                    [(time.time(), hashes.to_text(term.xorb)) for term in file.terms],
                )
                connection.execute(
                    "INSERT OR IGNORE INTO xet_files (hash, size, terms, sha256)"
                    " VALUES (?, ?, ?, ?)",
                    (name, size, _write_terms(file.terms), sha256),
                )
                connection.execute(
                    "INSERT INTO objects (sha256, size, xet_hash, touched_at) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (sha256) DO UPDATE"
                    " SET xet_hash = excluded.xet_hash, touched_at = excluded.touched_at",
                    (sha256, size, name, time.time()),
                )
                connection.execute(
                    "INSERT OR IGNORE INTO repository_objects (repository_id, sha256)"
                    " VALUES (?, ?)",
                    (repository_id, sha256),
                )

    def recipe(self, file: str) -> tuple[list[Term], int, str]:
        """Return how a file is made, its size and its sha256.

        Raises: EntryNotFound.
        """
        row = self.database.one("SELECT * FROM xet_files WHERE hash = ?", file)
        if row is None:
            raise EntryNotFound("The file does not exist")
        return _read_terms(row["terms"]), row["size"], row["sha256"]

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        """Yield a range of a file's plain bytes.

        Raises: EntryNotFound when no file of this hash came over the Xet protocol.
        """
        row = self.database.one("SELECT terms FROM xet_files WHERE sha256 = ?", sha256)
        if row is None:
            raise EntryNotFound(f"The large file {sha256} is not on this hub")
        return self._read_terms(_read_terms(row["terms"]), start, length)

    def _verify(self, file: FileInfo) -> tuple[str, int]:
        known = self.database.one(
            "SELECT size, sha256 FROM xet_files WHERE hash = ?", hashes.to_text(file.hash)
        )
        chunks: list[Chunk] = []
        for term, proof in zip(file.terms, file.range_hashes, strict=True):
            within = self.chunks(term.xorb)
            if not term.start < term.end <= len(within):
                raise HubRefused(400, "A shard names chunks that are not in their block")
            part = within[term.start : term.end]
            if sum(chunk.size for chunk in part) != term.size:
                raise HubRefused(400, "A shard is wrong about the size of a range")
            # Block hashes are no secret (shards name them), so naming one is no right to its bytes:
            # the keyed hash over the chunk hashes needs the chunks themselves.
            if hashes.range_hash(chunk.hash for chunk in part) != proof:
                raise HubRefused(400, "A shard does not prove that its sender has the chunks")
            chunks += part
        if hashes.file_hash(leaves(chunks)) != file.hash:
            raise HubRefused(400, "A file of the shard does not have the hash it claims")
        size = sum(chunk.size for chunk in chunks)
        # The same chunks always make the same bytes, so a known file is not read again.
        sha256 = known["sha256"] if known else self._sha256(file.terms, size)
        if file.sha256 is not None and file.sha256 != sha256:
            raise HubRefused(400, "A file of the shard does not have the sha256 it claims")
        return sha256, size

    def _sha256(self, terms: Sequence[Term], size: int) -> str:
        digest = hashlib.sha256()
        for piece in self._pieces(terms, 0, size):
            digest.update(piece)
        return digest.hexdigest()

    def _read_terms(self, terms: Sequence[Term], start: int, length: int) -> Iterator[bytes]:
        """Yield a range in blocks of about a megabyte."""
        pending: list[bytes | memoryview] = []
        pending_bytes = 0
        for piece in self._pieces(terms, start, start + length):
            pending.append(piece)
            pending_bytes += len(piece)
            if pending_bytes >= _READ_BYTES:
                yield b"".join(pending)
                pending.clear()
                pending_bytes = 0
        if pending:
            yield b"".join(pending)

    def _pieces(self, terms: Sequence[Term], start: int, end: int) -> Iterator[bytes | memoryview]:
        """Yield a range chunk by chunk."""
        position = 0
        for term in terms:
            if position + term.size <= start:
                position += term.size
                continue
            if position >= end:
                return
            wanted = []
            for chunk in self.chunks(term.xorb)[term.start : term.end]:
                if position < end and position + chunk.size > start:
                    wanted.append((position, chunk))
                position += chunk.size
            for at, plain in self._unpacked(term.xorb, wanted):
                yield plain[max(0, start - at) : end - at]

    def _unpacked(
        self, xorb: bytes, wanted: Sequence[tuple[int, Chunk]]
    ) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield neighbouring chunks of a block unpacked, each with its place in the file."""
        with self.layout.xorb(hashes.to_text(xorb)).open("rb", buffering=0) as file:
            file.seek(wanted[0][1].start)
            number = 0
            while number < len(wanted):
                start = wanted[number][1].start
                # One read for neighbouring chunks: they have about 64 KiB, too little for each.
                last = number
                while last + 1 < len(wanted) and wanted[last + 1][1].end - start <= _READ_BYTES:
                    last += 1
                data = memoryview(file.read(wanted[last][1].end - start))
                for at, chunk in wanted[number : last + 1]:
                    packed, scheme, size = read_header(data, chunk.start - start)
                    first = chunk.start - start + HEADER_BYTES
                    yield at, unpack(data[first : first + packed], scheme, size)
                number = last + 1


def _write_terms(terms: Sequence[Term]) -> bytes:
    return b"".join(_TERM.pack(term.xorb, term.start, term.end, term.size) for term in terms)


def _read_terms(packed: bytes) -> list[Term]:
    return [Term(xorb, start, end, size) for xorb, start, end, size in _TERM.iter_unpack(packed)]
