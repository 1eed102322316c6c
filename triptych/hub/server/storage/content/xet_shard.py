"""Shards: which chunks make which file. Read from what a client uploads."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from triptych.errors import HubRefused

MAXIMUM_BYTES = 64 * 2**20
_HEADER_BYTES = 48
_HEADER_VERSION = 2
_RECORD = struct.Struct("<32s4I")
_BOOKEND = b"\xff" * 32
_WITH_VERIFICATION = 1 << 31
_WITH_METADATA = 1 << 30


@dataclass(frozen=True)
class Term:
    """Name a run of chunks in a block, end exclusive, and how many plain bytes it has."""

    xorb: bytes
    start: int
    end: int
    size: int


@dataclass(frozen=True)
class FileInfo:
    """Describe which chunks make a file, and the sha256 its uploader claims."""

    hash: bytes
    terms: tuple[Term, ...]
    range_hashes: tuple[bytes, ...]
    sha256: str | None


def read_shard(data: bytes) -> list[FileInfo]:
    """Return the files a shard describes.

    Raises: HubRefused (400) for anything that is not a whole shard with verification.
    """
    if len(data) < _HEADER_BYTES:
        raise HubRefused(400, "The shard has no header")
    version, _ = struct.unpack_from("<QQ", data, 32)
    if version != _HEADER_VERSION:
        raise HubRefused(400, f"Shards of version {version} are not known here")
    try:
        return _read_files(data)
    except struct.error as error:
        raise HubRefused(400, "The shard ends too early") from error


def _read_files(data: bytes) -> list[FileInfo]:
    files: list[FileInfo] = []
    position = _HEADER_BYTES
    while True:
        raw, flags, count, _, _ = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        if raw == _BOOKEND:
            return files
        if not flags & _WITH_VERIFICATION:
            raise HubRefused(400, "Every file of a shard needs verification hashes")
        if count * _RECORD.size * 2 > len(data):
            raise HubRefused(400, "The shard ends too early")
        terms, range_hashes = [], []
        for _number in range(count):
            xorb, _, size, start, end = _RECORD.unpack_from(data, position)
            terms.append(Term(xorb, start, end, size))
            position += _RECORD.size
        for _number in range(count):
            range_hashes.append(_RECORD.unpack_from(data, position)[0])
            position += _RECORD.size
        sha256 = None
        if flags & _WITH_METADATA:
            claimed = _RECORD.unpack_from(data, position)[0]
            # Kept in the protocol's order of bytes, like every other hash of a shard.
            sha256 = b"".join(claimed[i : i + 8][::-1] for i in range(0, 32, 8)).hex()
            position += _RECORD.size
        files.append(FileInfo(raw, tuple(terms), tuple(range_hashes), sha256))
