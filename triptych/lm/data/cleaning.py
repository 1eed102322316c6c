"""Make text plain, and say why a document is not worth learning from.

Cleaning changes only what carries no meaning (byte-order marks, line endings, control
characters, Unicode composition); everything else is dropped whole, with a counted reason.
Left out: duplicates (duplicates.py) and taste.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Tab and newline stay; the other control characters, lone surrogates and byte-order marks go.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")
# Slides break lines with a vertical tab, pages end with a form feed, mainframes write NEL.
_LINE_ENDING = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# The look-behinds keep the time linear: a run is tried once, at its start.
_TRAILING_SPACE = re.compile(r"(?<![ \t])[ \t]++(?=\n|\Z)")
# Begins with one bare class, which the engine searches for fast.
_LONG_NON_ASCII = re.compile(r"[^\x00-\x7f][^\x00-\x7f]{100,}+")
_BLANK_LINES = re.compile(r"\n{4,}")
# Unbroken ASCII this long is an encoded blob or minified code, not words.
_BLOB = re.compile(r"(?<![!-~])[!-~]{256,}+")
_MAX_BLOB_FRAC = 0.5
_MAX_MARKS = 30
_MAX_REPEATED_FRAC = 0.7
_MIN_LINES_TO_REPEAT = 20


def clean(text: str) -> str:
    """Return the text in one plain form: NFC, `\\n` line endings, no control characters."""
    if not text.isascii() or any(mark in text for mark in "\r\x0b\x0c\x1c\x1d\x1e"):
        text = _LINE_ENDING.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _LONG_NON_ASCII.sub(_limit_marks, text))
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        text = _TRAILING_SPACE.sub("", text)
    if "\n\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n\n", text)
    return text.strip("\n")


def _limit_marks(run: re.Match[str]) -> str:
    """Cut more combining marks in a row than any language stacks: ordering them is quadratic.

    Source: Unicode Standard Annex 15, section 13, stream-safe text (30 marks).
    """
    return _mark_runs().sub(lambda marks: marks.group()[:_MAX_MARKS], run.group())


@lru_cache(maxsize=1)
def _mark_runs() -> re.Pattern[str]:
    marks = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.combining(chr(code)))
    return re.compile(f"[{marks}][{marks}]{{{_MAX_MARKS},}}")


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
    if text.count("\n") + 1 < _MIN_LINES_TO_REPEAT:
        return 0.0
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < _MIN_LINES_TO_REPEAT:
        return 0.0
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        if line in seen:
            repeated += len(line)
        seen.add(line)
    return repeated / sum(map(len, lines))
