"""The small text that stands in git for a large file: git-lfs' pointer, version 1."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAXIMUM_BYTES = 1024
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n?\Z"
)


@dataclass(frozen=True)
class Pointer:
    """Name a large file by its hash and size."""

    sha256: str
    size: int
    pointer_size: int


def write_pointer(sha256: str, size: int) -> bytes:
    """Return the text git keeps in place of a large file."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


def parse_pointer(content: bytes) -> Pointer | None:
    """Return what a file points to, or None for an ordinary file."""
    match = _POINTER.match(content) if len(content) < MAXIMUM_BYTES else None
    if match is None:
        return None
    return Pointer(match[1].decode(), int(match[2]), len(content))
