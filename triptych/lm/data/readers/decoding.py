"""Bytes of any size become text, a block at a time: by a byte order mark, as UTF-16, as UTF-8.

Line ends become `\\n`. Broken UTF-8 stays as lone surrogates, so that a reader can drop the part or
record it is in. Left out: whole small files (`triptych.documents`).
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

BLOCK_BYTES = 1 << 20
_SNIFF_BYTES = 4096
# Longest first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(start: bytes) -> str:
    """Return the encoding of a file from its first bytes; `utf-8-sig` unless they show another."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    start = start[: len(start) // 2 * 2]
    # Latin text in UTF-16 has a zero in every second byte.
    if start and start.count(0) * 3 > len(start):
        for encoding, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
            if zeros.count(0) * 3 > len(zeros) * 2 and start.count(0) - zeros.count(0) < 3:
                return encoding
    return "utf-8-sig"


def is_binary(start: bytes) -> bool:
    """Return whether a file's first bytes are no text in an encoding that is read here."""
    return b"\x00" in start and encoding_of(start) == "utf-8-sig"


def decoded(stream: io.BufferedReader) -> Iterator[str]:
    """Yield the text of a stream in blocks, with one kind of line end.

    Raises: UnicodeDecodeError for broken UTF-16 or UTF-32.
    """
    encoding = encoding_of(stream.peek(_SNIFF_BYTES)[:_SNIFF_BYTES])
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder(encoding)(errors), translate=True
    )
    while block := stream.read(BLOCK_BYTES):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def lines(stream: io.BufferedReader, max_chars: int) -> Iterator[str]:
    """Yield lines without their ends; of one that is too long, `max_chars + 1` characters."""
    pending, cut = "", False
    for block in decoded(stream):
        *whole, pending = (pending + block).split("\n")
        for line in whole:
            if not cut:
                yield line if len(line) <= max_chars else line[: max_chars + 1]
            cut = False
        if len(pending) > max_chars:
            if not cut:
                yield pending[: max_chars + 1]
            pending, cut = "", True
    if pending and not cut:
        yield pending
