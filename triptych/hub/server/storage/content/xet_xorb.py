"""Blocks of chunks as they travel and as they lie on disk; what is in them, chunk by chunk.

A chunk is an eight-byte header and its bytes, plain or LZ4, the latter possibly with the bytes
of each four grouped by position. Only the chunks are kept; a footer that follows them says
nothing that was not recomputed here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import lz4.frame

from triptych.errors import HubRefused
from triptych.hub.server.storage.content.xet_hashes import Leaf, chunk_hash, xorb_hash

HEADER_BYTES = 8
MAXIMUM_CHUNK_BYTES = 128 * 1024
MAXIMUM_XORB_BYTES = 64 * 2**20 + 2**20
_RECORD = struct.Struct("<32sII")
_PLAIN, _LZ4, _GROUPED_LZ4 = 0, 1, 2


@dataclass(frozen=True)
class Chunk:
    """Describe where a chunk is in its block, and its hash and length."""

    hash: bytes
    start: int
    end: int
    size: int


class ChunkReader:
    """Take a block's bytes as they arrive and verify each chunk as soon as it is whole."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.kept_bytes = 0
        self._pending = b""
        self._footer = False

    def feed(self, block: bytes | memoryview) -> memoryview:
        """Take more bytes and return those that are to be kept, before the next ones come.

        Raises: HubRefused (400) for bytes that are no chunks.
        """
        if self._footer:
            return memoryview(b"")
        data = memoryview(b"".join((self._pending, block)))
        position = 0
        while len(data) - position >= HEADER_BYTES:
            if data[position] != 0:
                self._footer = True
                break
            packed, scheme, size = read_header(data, position)
            end = position + HEADER_BYTES + packed
            if len(data) < end:
                break
            plain = unpack(data[position + HEADER_BYTES : end], scheme, size)
            start = self.kept_bytes + position
            length = HEADER_BYTES + packed
            self.chunks.append(Chunk(chunk_hash(plain), start, start + length, size))
            position = end
        self._pending = b"" if self._footer else bytes(data[position:])
        self.kept_bytes += position
        if self.kept_bytes > MAXIMUM_XORB_BYTES:
            raise HubRefused(413, "A block may have 64 MiB")
        return data[:position]

    def finish(self, promised: bytes) -> None:
        """Check that everything arrived and that it is what was promised."""
        if self._pending or not self.chunks:
            raise HubRefused(400, "The block ends inside a chunk")
        if xorb_hash(leaves(self.chunks)) != promised:
            raise HubRefused(400, "The block does not have the hash it was sent under")


def read_header(data: memoryview, position: int) -> tuple[int, int, int]:
    """Return packed size, scheme and plain size of the chunk at a position."""
    packed = int.from_bytes(data[position + 1 : position + 4], "little")
    scheme = data[position + 4]
    size = int.from_bytes(data[position + 5 : position + 8], "little")
    if not 0 < size <= MAXIMUM_CHUNK_BYTES or not 0 < packed <= MAXIMUM_CHUNK_BYTES + 1024:
        raise HubRefused(400, "A chunk has an impossible size")
    return packed, scheme, size


def unpack(data: memoryview, scheme: int, size: int) -> bytes | memoryview:
    """Return a chunk's plain bytes.

    Raises: HubRefused (400) when they are not what the header says.
    """
    plain: bytes | memoryview = data
    if scheme in (_LZ4, _GROUPED_LZ4):
        plain = _decompress(data, size)
        if scheme == _GROUPED_LZ4:
            plain = _ungroup(plain)
    elif scheme != _PLAIN:
        raise HubRefused(400, f"Chunks are never packed by scheme {scheme}")
    if len(plain) != size:
        raise HubRefused(400, "A chunk does not have the size its header says")
    return plain


def leaves(chunks: Sequence[Chunk]) -> list[Leaf]:
    """Return what trees are made of."""
    return [(chunk.hash, chunk.size) for chunk in chunks]


def write_table(chunks: Sequence[Chunk]) -> bytes:
    """Return the list of chunks as the database keeps it."""
    return b"".join(_RECORD.pack(chunk.hash, chunk.end, chunk.size) for chunk in chunks)


def read_table(table: bytes) -> list[Chunk]:
    """Return the list of chunks from what the database keeps."""
    chunks = []
    start = 0
    for raw, end, size in _RECORD.iter_unpack(table):
        chunks.append(Chunk(raw, start, end, size))
        start = end
    return chunks


def _decompress(data: memoryview, size: int) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        # One byte more than promised is enough to see that a chunk lies about its size.
        return bytes(decompressor.decompress(data, max_length=size + 1))
    except (RuntimeError, EOFError) as error:
        raise HubRefused(400, "A chunk is not valid LZ4") from error


def _ungroup(data: bytes | memoryview) -> bytes:
    plain = bytearray(len(data))
    start = 0
    for lane in range(4):
        count = (len(data) - lane + 3) // 4
        plain[lane::4] = data[start : start + count]
        start += count
    return bytes(plain)
