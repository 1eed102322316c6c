"""Make text plain, and say why a document is not worth learning from.

Cleaning changes only what carries no meaning (byte-order marks, line endings, control
characters, Unicode composition); everything else is dropped whole, with a counted reason.
Left out: duplicates (duplicates.py) and taste.
"""

from __future__ import annotations

import re
import unicodedata

# Tab and newline stay; the other control characters, lone surrogates and byte-order marks go.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff]+")
_LINE_ENDING = re.compile("\r\n?|\u2028|\u2029")
_TRAILING_SPACE = re.compile(r"[ \t]+(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{4,}")
# Unbroken ASCII this long is an encoded blob or minified code, not words.
_BLOB = re.compile(r"[!-~]{256,}")
_MAX_BLOB_FRAC = 0.5
_MAX_REPEATED_FRAC = 0.7


def clean(text: str) -> str:
    """Return the text in one plain form: NFC, `\\n` line endings, no control characters."""
    text = _LINE_ENDING.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = unicodedata.normalize("NFC", text)
    text = _TRAILING_SPACE.sub("", text)
    return _BLANK_LINES.sub("\n\n\n", text).strip("\n")


def reason_to_drop(text: str, *, min_chars: int) -> str | None:
    """Name why a cleaned document is not kept, or return None."""
    if not text.strip():
        return "empty"
    if len(text) < min_chars:
        return "too_short"
    if sum(map(len, _BLOB.findall(text))) > _MAX_BLOB_FRAC * len(text):
        return "encoded_blob"
    if _repeated_frac(text) > _MAX_REPEATED_FRAC:
        return "repetitive"
    return None


def _repeated_frac(text: str) -> float:
    """Return the share of characters in lines that already occurred, among long texts only."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 20:
        return 0.0
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        if line in seen:
            repeated += len(line)
        seen.add(line)
    return repeated / sum(map(len, lines))
