"""Divide documents into training and validation, never a document into both.

Groups are ranked by a hash of the seed and their number, and taken for validation until its
share of the bytes is reached: the same corpus and seed always give the same split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

TRAIN, VALIDATION = 0, 1


def choose_validation(
    sizes_bytes: Sequence[int], groups: Sequence[int], *, validation_frac: float, seed: int
) -> np.ndarray:
    """Mark which documents validate: whole groups, about `validation_frac` of the bytes.

    With a single group nothing can be held out, and none is.

    Shape: [documents] bool.
    """
    sizes = np.asarray(sizes_bytes, dtype=np.int64)
    numbers, members = np.unique(np.asarray(groups, dtype=np.int64), return_inverse=True)
    chosen = np.zeros(len(numbers), dtype=bool)
    if len(numbers) < 2:
        return np.zeros(len(sizes), dtype=bool)
    weights = np.bincount(members, weights=sizes).astype(np.int64)
    target = validation_frac * int(sizes.sum())
    taken = 0
    ranked = np.argsort([_rank(seed, int(number)) for number in numbers], kind="stable")
    for group in ranked:
        # A group that would more than double the share is left to training.
        if taken + weights[group] <= max(target, 1) * 1.25:
            chosen[group] = True
            taken += int(weights[group])
        if taken >= target:
            break
    if not chosen.any():
        chosen[int(np.argmin(weights))] = True
    return chosen[members]


def tail_cut(text: str, keep_frac: float) -> int:
    """Return where to cut one text so that its tail can validate: at a line where possible."""
    position = int(len(text) * keep_frac)
    for separator in ("\n\n", "\n", " "):
        cut = text.rfind(separator, position // 2, position)
        if cut > 0:
            return cut + len(separator)
    return position


def _rank(seed: int, number: int) -> bytes:
    return hashlib.blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
