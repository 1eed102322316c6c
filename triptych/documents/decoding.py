"""Bytes become text: by a byte order mark, as UTF-8, as UTF-16 without a mark, as Windows-1252."""

from __future__ import annotations

import codecs

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes) -> str:
    """Return the text of a file: by its byte order mark, as UTF-8, else as Windows-1252."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        zeros = data[:4096].count(0)
        if zeros > len(data[:4096]) // 4:
            encoding = "utf-16-le" if data[1:2] == b"\x00" else "utf-16-be"
            return data.decode(encoding, "replace")
        return data.decode("cp1252", "replace")


def is_binary(data: bytes) -> bool:
    """Return whether the bytes are no text in any encoding that `decode` knows."""
    start = data[:8192]
    if any(start.startswith(mark) for mark, _ in _BOMS) or not start:
        return False
    zeros = start.count(0)
    # UTF-16 without a mark has a zero in every second byte of Latin text.
    return 0 < zeros < len(start) // 4 or zeros > len(start) * 3 // 4
