"""Hash a batch of texts into word shingles: what two texts must share to be near duplicates.

A word is a run of letters and digits, case folded for ASCII; a character of three or more
UTF-8 bytes (Chinese, Japanese, Devanagari ...) begins a word of its own, so that scripts
without spaces have shingles too. Everything is arithmetic on whole arrays modulo 2^64, the
same on every machine, at hundreds of megabytes per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from triptych.lm.data.hashing import mix, name_hash

_BASE = 0x9E3779B97F4A7C15
_WORD_BASE = np.uint64(0xD6E8FEB86659FD93)
_ALNUM = b"0123456789abcdefghijklmnopqrstuvwxyz"
_FOLD = np.zeros(256, dtype=np.uint8)
_FOLD[list(_ALNUM)] = list(_ALNUM)
_FOLD[list(_ALNUM[10:].upper())] = list(_ALNUM[10:])
_FOLD[128:] = np.arange(128, 256)
_WIDE_LEAD = 0xE0


def word_shingles(texts: Sequence[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Hash every run of `words` consecutive words; a shorter text is one shingle.

    Shape: hashes [shingles] uint64, then offsets [texts + 1] uint64 of each text's first.
    """
    encoded = [text.encode() for text in texts]
    data = np.frombuffer(b"\n".join([*encoded, b""]), dtype=np.uint8)
    text_ends = np.cumsum([len(text) + 1 for text in encoded])
    starts = _word_starts(data)
    owner = np.searchsorted(text_ends, starts, side="right")
    counts = np.bincount(owner, minlength=len(texts)).astype(np.int64)
    hashes = _combine(_word_hashes(data, starts), words)
    # A window belongs to the text its first word is in, and must end inside it.
    first = np.cumsum(counts) - counts
    inside = np.arange(len(starts)) + words <= (first + counts)[owner]
    short = np.flatnonzero(counts < words)
    kept_per_text = np.maximum(counts - words + 1, 0)
    kept_per_text[short] = 1
    offsets = np.zeros(len(texts) + 1, dtype=np.uint64)
    np.cumsum(kept_per_text, out=offsets[1:], dtype=np.uint64)
    out = np.empty(int(offsets[-1]), dtype=np.uint64)
    is_short = np.zeros(len(out), dtype=bool)
    is_short[offsets[:-1][short].astype(np.int64)] = True
    out[~is_short] = hashes[inside]
    out[is_short] = [_whole(encoded[number]) for number in short]
    return out, offsets


def _word_starts(data: np.ndarray) -> np.ndarray:
    """Shape: [bytes] uint8 to [words], where each word begins."""
    word = _FOLD[data] != 0
    after_gap = np.empty(len(data), dtype=bool)
    after_gap[:1] = True
    np.logical_not(word[:-1], out=after_gap[1:])
    return np.flatnonzero((word & after_gap) | (data >= _WIDE_LEAD))


def _word_hashes(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Hash each word as a polynomial of its bytes, whose first power is that of its place.

    Dividing by that power afterwards makes a word's hash the same wherever it stands.

    Shape: [bytes] uint8 and [words] to [words] uint64.
    """
    if len(starts) == 0:
        return np.empty(0, dtype=np.uint64)
    powers, inverses = _powers(1 << (len(data) - 1).bit_length())
    weighted = _FOLD[data] * powers[: len(data)]
    # Separators are zero, so what follows the last letter of a word adds nothing to it.
    return mix(np.add.reduceat(weighted, starts) * inverses[starts])


def _combine(hashes: np.ndarray, words: int) -> np.ndarray:
    """Hash every run of `words` words; the last runs of a batch are cut short.

    Shape: [words] uint64 to [words] uint64.
    """
    combined = hashes.copy()
    for offset in range(1, words):
        following = np.zeros_like(hashes)
        following[: max(0, len(hashes) - offset)] = hashes[offset:]
        combined = combined * _WORD_BASE + following
    return mix(combined)


def _whole(text: bytes) -> int:
    """Hash a text too short for one window by its words, or without words by its bytes."""
    words = bytes(_FOLD[np.frombuffer(text, dtype=np.uint8)]).split(b"\x00")
    plain = b" ".join(word for word in words if word) or text
    return name_hash(plain)


@lru_cache(maxsize=1)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the base and its inverse modulo 2^64 to the powers 0 .. count - 1.

    Shape: two [count] uint64.
    """
    inverse = pow(_BASE, -1, 1 << 64)
    return _geometric(_BASE, count), _geometric(inverse, count)


def _geometric(base: int, count: int) -> np.ndarray:
    """Shape: [count] uint64, wrapping at 2^64."""
    factors = np.full(count, np.uint64(base))
    factors[0] = 1
    return np.multiply.accumulate(factors)
