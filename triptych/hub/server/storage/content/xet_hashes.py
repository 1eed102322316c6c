"""The hashes of the Xet protocol: keyed BLAKE3 over chunks, and trees over those.

A hash is 32 bytes; written as text, each group of eight bytes is a little-endian number.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence

from blake3 import blake3

from triptych.errors import HubRefused

_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_FILE_KEY = bytes(32)
_MEAN_BRANCHES = 4
_TEXT = re.compile(r"[0-9a-f]{64}")

Leaf = tuple[bytes, int]
"""The hash and the length of a chunk, or of everything below a node."""


def to_text(raw: bytes) -> str:
    """Write a hash as the protocol writes it."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def from_text(text: str) -> bytes:
    """Read a hash as the protocol writes it.

    Raises: HubRefused (400) when it is not valid.
    """
    if not _TEXT.fullmatch(text):
        raise HubRefused(400, "A hash is 64 lowercase hexadecimal digits")
    return struct.pack("<4Q", *(int(text[i : i + 16], 16) for i in range(0, 64, 16)))


def chunk_hash(data: bytes | memoryview) -> bytes:
    """Return the hash of a chunk's plain bytes."""
    return blake3(data, key=_CHUNK_KEY).digest()


def xorb_hash(chunks: Sequence[Leaf]) -> bytes:
    """Return the hash of a block: the root of the tree over its chunks."""
    # A Merkle tree whose nodes have at most 9 children. Where a node ends depends on the hashes
    # of its children and not on their position, so a chunk inserted at the start changes only the
    # nodes above it, and client and hub cut at the same places without exchanging the tree.
    level = list(chunks)
    if not level:
        return bytes(32)
    while len(level) > 1:
        above = []
        start = 0
        while start < len(level):
            end = start + _cut(level, start)
            above.append(_node(level[start:end]))
            start = end
        level = above
    return level[0][0]


def file_hash(chunks: Sequence[Leaf]) -> bytes:
    """Return the hash of a file: its tree's root, hashed once more."""
    return blake3(xorb_hash(chunks), key=_FILE_KEY).digest() if chunks else bytes(32)


def range_hash(chunk_hashes: Iterable[bytes]) -> bytes:
    """Return what proves that an uploader knows each chunk of a range."""
    return blake3(b"".join(chunk_hashes), key=_RANGE_KEY).digest()


def _cut(level: Sequence[Leaf], start: int) -> int:
    """Return how many neighbours share a parent: the hashes themselves decide where to cut."""
    left = len(level) - start
    if left <= 2:
        return left
    most = min(2 * _MEAN_BRANCHES + 1, left)
    # A node ends after the third child or later, at the first hash divisible by the mean branching
    # (4 on average), and in any case after the ninth.
    for number in range(2, most):
        last_word = struct.unpack_from("<Q", level[start + number][0], 24)[0]
        if last_word % _MEAN_BRANCHES == 0:
            return number + 1
    return most


def _node(children: Sequence[Leaf]) -> Leaf:
    lines = "".join(f"{to_text(raw)} : {size}\n" for raw, size in children)
    return blake3(lines.encode(), key=_NODE_KEY).digest(), sum(size for _, size in children)
