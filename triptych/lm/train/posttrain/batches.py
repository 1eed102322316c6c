"""Which rows a step reads, and how they lie in a tensor.

Batch `k` is a pure function of (number of rows, seed, k): resuming needs no state. Rows are drawn
epoch after epoch without remainder, so a batch may hold the end of one epoch and the start of the
next. Left out: what is computed on them (`step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Batch:
    """Texts as one tensor, with the trained tokens as targets; a target of -100 is not trained.

    Shape: ids and targets (B, T). With `lengths`, B is 1 and the texts lie one after another.
    """

    ids: Tensor
    targets: Tensor
    lengths: tuple[int, ...] | None

    def rows(self) -> Tensor:
        """Return the number of the text that each trained token belongs to, in reading order.

        Shape: (trained tokens,).
        """
        if self.lengths is None:
            return (self.targets >= 0).nonzero()[:, 0]
        counts = torch.tensor(self.lengths, device=self.ids.device)
        owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        return owner[self.targets[0] >= 0]


def lay(texts: Sequence[Tokens], device: str) -> Batch:
    """Lay texts one after another on a CPU, where each token costs; as padded rows on a GPU.

    A GPU computes a rectangle faster than many short texts in turn.
    """
    return pad(texts, device) if device.startswith("cuda") else pack(texts, device)


def pack(texts: Sequence[Tokens], device: str) -> Batch:
    """Lay texts one after another; attention does not cross their borders."""
    ids = np.concatenate([text.ids[:-1] for text in texts])
    following = np.concatenate([text.ids[1:] for text in texts])
    trained = np.concatenate([text.mask[1:] for text in texts])
    targets = np.where(trained, following, IGNORED)
    return Batch(
        torch.from_numpy(ids[None].astype(np.int64)).to(device),
        torch.from_numpy(targets[None].astype(np.int64)).to(device),
        tuple(len(text) - 1 for text in texts),
    )


def pad(texts: Sequence[Tokens], device: str) -> Batch:
    """Lay texts as rows, filled up at their ends.

    Attention is causal, so what stands behind a text changes nothing in it.
    """
    longest = max(len(text) for text in texts) - 1
    ids = np.zeros((len(texts), longest), dtype=np.int64)
    targets = np.full((len(texts), longest), IGNORED, dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text) - 1] = text.ids[:-1]
        targets[row, : len(text) - 1] = np.where(text.mask[1:], text.ids[1:], IGNORED)
    return Batch(torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device), None)


def by_length(texts: Sequence[Tokens], rows: Sequence[int], size: int) -> list[list[int]]:
    """Cut rows into parts of at most `size`, texts of like length together: less is filled up."""
    ordered = sorted(rows, key=lambda row: (-len(texts[row]), row))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
