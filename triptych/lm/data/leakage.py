"""Check that no validation document has a near duplicate in training.

Near-duplicate removal compares whole documents. This check also sees a short validation
document quoted inside a long training one: it counts how many of its eight-word shingles
occur anywhere in training. It is made on the files as written, after the split.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from triptych.lm.data.shingles import word_shingles

SHINGLE_WORDS = 8
_FILTER_BITS = 24


class LeakageCheck:
    """Compare validation documents with all training text, a batch at a time."""

    def __init__(self, validation: Iterator[list[str]]) -> None:
        """Take in the validation documents, in order."""
        hashes, counts = [], []
        for texts in validation:
            shingles, offsets = word_shingles(texts, SHINGLE_WORDS)
            hashes.append(shingles)
            counts.append(np.diff(offsets).astype(np.int64))
        self._counts = np.concatenate(counts, dtype=np.int64)
        self._known, self._inverse = np.unique(np.concatenate(hashes), return_inverse=True)
        self._found = np.zeros(len(self._known), dtype=bool)
        # Most training shingles occur in no validation document; a small table says so fast.
        self._filter = np.zeros(1 << _FILTER_BITS, dtype=bool)
        self._filter[self._slot(self._known)] = True

    def add_training(self, texts: list[str]) -> None:
        """Mark the validation shingles that occur in a batch of training documents."""
        shingles, _ = word_shingles(texts, SHINGLE_WORDS)
        likely = shingles[self._filter[self._slot(shingles)]]
        position = np.searchsorted(self._known, likely)
        position[position == len(self._known)] = 0
        self._found[position[self._known[position] == likely]] = True

    def overlap_frac(self) -> np.ndarray:
        """Return the share of each validation document's shingles that training has.

        Shape: [validation documents] float64.
        """
        owner = np.repeat(np.arange(len(self._counts)), self._counts)
        return np.bincount(owner, weights=self._found[self._inverse]) / self._counts

    @staticmethod
    def _slot(hashes: np.ndarray) -> np.ndarray:
        """Shape: [n] uint64 to [n], the place in the filter: a hash's upper bits."""
        return hashes >> np.uint64(64 - _FILTER_BITS)
