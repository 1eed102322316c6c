"""Divide documents into training and validation, never a document into both.

Groups are ranked by a hash of the seed and their name, and taken for validation until its
share of the bytes is reached: the same corpus and seed always give the same split. A corpus
of one single document has nothing whole to hold out; there its end validates, and the
manifest says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.lm.data.document import Document, cut_text
from triptych.lm.data.hashing import mix, sequence

SPLITS = ("train", "val")
# A group that would overshoot the share of validation by more than this stays in training.
_OVERSHOOT = 1.25


@dataclass(frozen=True)
class HeldOut:
    """The split each document goes to, and which one, if any, is divided.

    Shape: `validation` [documents] bool.
    """

    by: str
    validation: np.ndarray
    divided: int = -1
    keep_frac: float = 1.0

    def place(self, number: int, document: Document) -> Iterator[tuple[str, Document]]:
        """Yield the document with its split, or its two pieces."""
        if number != self.divided:
            yield ("val" if self.validation[number] else "train"), document
            return
        text = document.text
        cut = cut_text(text, int(len(text) * self.keep_frac))
        for split, piece in zip(SPLITS, (text[:cut], text[cut:]), strict=True):
            if piece.strip():
                yield split, dataclasses.replace(document, text=piece)


def hold_out(
    sizes_bytes: Sequence[int] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    validation_frac: float,
    seed: int,
) -> HeldOut:
    """Choose whole groups for validation, about `validation_frac` of the bytes.

    `groups` are the hashes of the groups' names.

    Shape: sizes and groups [documents].
    """
    sizes = np.asarray(sizes_bytes, dtype=np.int64)
    names, members = np.unique(np.asarray(groups, dtype=np.uint64), return_inverse=True)
    if len(names) < 2:
        return _hold_out_tail(sizes, validation_frac)
    weights = np.bincount(members, weights=sizes).astype(np.int64)
    target = validation_frac * int(sizes.sum())
    chosen = np.zeros(len(names), dtype=bool)
    taken = 0
    for group in np.argsort(mix(names ^ sequence(1, f"split {seed}")), kind="stable"):
        if taken + weights[group] <= target * _OVERSHOOT:
            chosen[group] = True
            taken += int(weights[group])
        if taken >= target:
            break
    if not chosen.any():
        chosen[int(np.argmin(weights))] = True
    return HeldOut("document", chosen[members])


def _hold_out_tail(sizes: np.ndarray, validation_frac: float) -> HeldOut:
    """Hold out the end of the only document, or of the only group of documents.

    Shape: sizes [documents], in bytes.
    """
    ends = np.cumsum(sizes)
    line = (1 - validation_frac) * int(ends[-1])
    divided = int(np.searchsorted(ends, line, side="left"))
    keep_frac = (line - int(ends[divided] - sizes[divided])) / int(sizes[divided])
    return HeldOut("end of the only document", np.arange(len(sizes)) > divided, divided, keep_frac)
