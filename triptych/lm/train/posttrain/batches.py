"""Which rows a step reads, and how they lie in a tensor.

Batch `k` is a pure function of (number of rows, seed, k): resuming needs no state. Rows are drawn
epoch after epoch without remainder, so a batch may hold the end of one epoch and the start of the
next. Left out: what is computed on them (`step`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from triptych.lm.data.conversations.dataset import Tokens
from triptych.lm.data.hashing import sequence
from triptych.lm.model.head import IGNORED


class RowOrder:
    """The order in which rows are read: each epoch is a permutation of its own."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epochs: dict[int, np.ndarray] = {}

    def batch(self, step: int, batch_rows: int) -> list[int]:
        """Return the rows of step `step`, counted from 0."""
        places = range(step * batch_rows, (step + 1) * batch_rows)
        return [int(self._epoch(place // self._count)[place % self._count]) for place in places]

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            if len(self._epochs) > 2:
                self._epochs.clear()
            keys = sequence(self._count, f"rows {self._seed} {epoch}")
            self._epochs[epoch] = np.argsort(keys, kind="stable")
        return self._epochs[epoch]


def pad(texts: Sequence[Tokens], device: str) -> tuple[Tensor, Tensor]:
    """Lay texts as rows of one tensor, filled up at their ends, with the trained tokens as targets.

    Attention is causal, so what stands behind a text changes nothing in it.

    Shape: (B, T) ids and (B, T) targets; a target that is not trained is -100.
    """
    longest = max(len(text) for text in texts) - 1
    ids = np.zeros((len(texts), longest), dtype=np.int64)
    targets = np.full((len(texts), longest), IGNORED, dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text) - 1] = text.ids[:-1]
        targets[row, : len(text) - 1] = np.where(text.mask[1:], text.ids[1:], IGNORED)
    return torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device)


def by_length(texts: Sequence[Tokens], rows: Sequence[int], size: int) -> list[list[int]]:
    """Cut rows into parts of at most `size`, texts of like length together: less is filled up."""
    ordered = sorted(rows, key=lambda row: (-len(texts[row]), row))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
