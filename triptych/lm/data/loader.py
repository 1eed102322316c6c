"""The order of training data: batch k is a pure function of (fingerprint, seed, epoch, index).

Each epoch shuffles whole documents, concatenates them (each starts with the boundary token)
into a ring, splits the ring at a place of its own into sequences, and shuffles those: nothing is
padded, little is lost, no two epochs cut alike, and a batch never sits in one long document.
There is no state to save: a resume is an integer, on any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from triptych.errors import DataError
from triptych.lm.data.hashing import sequence
from triptych.lm.data.shards import TokenShards


@dataclass(frozen=True, eq=False)
class _Epoch:
    """Hold the shuffled documents of one epoch, where each lies in its ring, and the cuts."""

    starts: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray
    cuts: np.ndarray


def sequences_per_epoch(shards: TokenShards, sequence_length: int) -> int:
    """Count the sequences one epoch yields; the rest, shorter than one, is not read."""
    return (len(shards) - 1) // sequence_length


def batches_per_epoch(shards: TokenShards, batch_size: int, sequence_length: int) -> int:
    """Count the whole batches of one epoch.

    Units: `batch_size` in sequences of `sequence_length` tokens.
    Raises: DataError when the corpus is smaller than one batch.
    """
    batches = sequences_per_epoch(shards, sequence_length) // batch_size
    if batches == 0:
        raise DataError(
            f"the {shards.split} split has {len(shards):,} tokens, less than one batch of "
            f"{batch_size} x {sequence_length} + 1",
            hint="use more text, a smaller batch or a shorter sequence",
        )
    return batches


def locate(step: int, batches: int) -> tuple[int, int]:
    """Return (epoch, index) of the batch at a step, counted from 0."""
    return divmod(step, batches)


def batch(
    shards: TokenShards,
    *,
    seed: int,
    epoch: int,
    index: int,
    batch_size: int,
    sequence_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and the targets (inputs shifted by one) of one batch.

    Processes and accumulation take rows of it; the batch itself never depends on them.

    Shape: two [B, T] int64.
    Raises: DataError when the corpus is smaller than one batch.
    """
    batches = batches_per_epoch(shards, batch_size, sequence_length)
    if not 0 <= index < batches:
        raise IndexError(f"batch {index} of an epoch of {batches}")
    order = _epoch_order(shards, seed, epoch, sequence_length)
    cuts = order.cuts[index * batch_size : (index + 1) * batch_size]
    rows = np.empty((batch_size, sequence_length + 1), dtype=np.int64)
    for row, position in enumerate(cuts):
        _fill(shards, order, int(position), rows[row])
    return rows[:, :-1], rows[:, 1:]


def _fill(shards: TokenShards, order: _Epoch, position: int, out: np.ndarray) -> None:
    """Copy the tokens at a position of the epoch's ring, on into the next document and around.

    Shape: out [tokens], filled.
    """
    document = int(np.searchsorted(order.ends, position, side="right"))
    offset = position - int(order.ends[document] - order.lengths[document])
    filled = 0
    while filled < len(out):
        count = min(int(order.lengths[document]) - offset, len(out) - filled)
        start = int(order.starts[document]) + offset
        out[filled : filled + count] = shards.read(start, count)
        filled += count
        document, offset = (document + 1) % len(order.ends), 0


@lru_cache(maxsize=4)
def _epoch_order(shards: TokenShards, seed: int, epoch: int, sequence_length: int) -> _Epoch:
    starts = shards.document_starts
    lengths = np.diff(starts, append=len(shards))
    permutation = shuffled(len(starts), shards.fingerprint, seed, epoch)
    starts, lengths = starts[permutation], lengths[permutation]
    sequences = sequences_per_epoch(shards, sequence_length)
    order = shuffled(sequences, f"{shards.fingerprint} sequences", seed, epoch)
    # A place that differs from epoch to epoch, far apart for neighbours (the golden ratio's bits).
    begin = int(order[0]) * 0x9E3779B1 % len(shards)
    cuts = (begin + order * sequence_length) % len(shards)
    return _Epoch(starts, lengths, np.cumsum(lengths), cuts)


def shuffled(count: int, name: str, seed: int, epoch: int) -> np.ndarray:
    """Return the numbers below `count` in the order of one epoch.

    Shape: [count] int64.
    """
    return np.argsort(sequence(count, f"{name} {seed} {epoch}"), kind="stable")
