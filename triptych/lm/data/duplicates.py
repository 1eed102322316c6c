"""Find near duplicates with MinHash, in memory that does not grow with the text.

Signatures wait on disk, one file for each band of the locality-sensitive hash; the bands are
sorted one at a time. Two documents are near duplicates when their estimated Jaccard
similarity of five-word shingles reaches a threshold; of each connected cluster the first
document stays. Left out: exact duplicates, which the reading pass sees by their hash.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from rensa import RMinHash

from triptych.lm.data.shingles import word_shingles

SHINGLE_WORDS = 5
# 25 bands of 5 rows find a pair at similarity 0.8 with probability 0.99995.
_BANDS, _ROWS = 25, 5
_PERMUTATIONS = _BANDS * _ROWS
_MINHASH_SEED = 20_231_130
_ROW_BASE = np.uint64(0x9E3779B97F4A7C15)
_VERIFY_PAIRS = 1 << 16


class NearDuplicates:
    """Collect documents, then tell which ones to keep."""

    def __init__(self, folder: Path, *, min_similarity_frac: float) -> None:
        self.min_similarity_frac = min_similarity_frac
        self.count = 0
        folder.mkdir()
        self._folder = folder
        self._signatures: IO[bytes] = (folder / "signatures.u32").open("w+b")
        self._bands = [(folder / f"band-{band:02d}.u64").open("w+b") for band in range(_BANDS)]

    def add(self, texts: Sequence[str]) -> None:
        """Append a batch of documents."""
        if not texts:
            return
        signatures = minhash(texts)
        self._signatures.write(signatures.tobytes())
        keys = np.zeros((len(texts), _BANDS), dtype=np.uint64)
        rows = signatures.reshape(len(texts), _BANDS, _ROWS).astype(np.uint64)
        for row in range(_ROWS):
            keys = (keys + rows[:, :, row] + np.uint64(1)) * _ROW_BASE
            keys ^= keys >> np.uint64(32)
        for band, file in enumerate(self._bands):
            file.write(np.ascontiguousarray(keys[:, band]).tobytes())
        self.count += len(texts)

    def kept(self) -> np.ndarray:
        """Mark the documents that stay: the first of each cluster of near duplicates.

        Shape: [documents] bool.
        """
        parents = np.arange(self.count, dtype=np.int64)
        for file in self._bands:
            file.seek(0)
            earlier, later = _candidates(np.fromfile(file, dtype=np.uint64))
            for start in range(0, len(earlier), _VERIFY_PAIRS):
                window = slice(start, start + _VERIFY_PAIRS)
                self._join(parents, earlier[window], later[window])
        return np.array([_root(parents, number) == number for number in range(self.count)], bool)

    def __enter__(self) -> NearDuplicates:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close and delete the files."""
        for file in (self._signatures, *self._bands):
            # What is still buffered may not fit on a full disk; it is not needed any more.
            with contextlib.suppress(OSError):
                file.close()
        shutil.rmtree(self._folder)

    def _join(self, parents: np.ndarray, earlier: np.ndarray, later: np.ndarray) -> None:
        """Unite the pairs that are similar enough and not united yet.

        Shape: parents [documents], changed in place; earlier and later [pairs].
        """
        apart = np.array(
            [_root(parents, a) != _root(parents, b) for a, b in zip(earlier, later, strict=True)],
            bool,
        )
        earlier, later = earlier[apart], later[apart]
        if len(earlier) == 0:
            return
        equal = self._rows(earlier) == self._rows(later)
        similar = equal.mean(axis=1) >= self.min_similarity_frac
        for a, b in zip(earlier[similar], later[similar], strict=True):
            first, second = sorted((_root(parents, a), _root(parents, b)))
            parents[second] = first

    def _rows(self, numbers: np.ndarray) -> np.ndarray:
        """Read some signatures back.

        Shape: [documents] to [documents, permutations] uint32.
        """
        self._signatures.flush()
        out = np.empty((len(numbers), _PERMUTATIONS), dtype=np.uint32)
        order = np.argsort(numbers, kind="stable")
        for position in order:
            self._signatures.seek(int(numbers[position]) * _PERMUTATIONS * 4)
            out[position] = np.frombuffer(self._signatures.read(_PERMUTATIONS * 4), np.uint32)
        return out


def minhash(texts: Sequence[str]) -> np.ndarray:
    """Return the MinHash signatures of the texts' five-word shingles.

    Shape: [texts, permutations] uint32.
    """
    hashes, offsets = word_shingles(texts, SHINGLE_WORDS)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets, _PERMUTATIONS, _MINHASH_SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32)


def _candidates(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair each document with its predecessor and with the first of its bucket.

    Every pair of a bucket would be quadratic in its size; the first finds documents that differ
    from their predecessor, and the predecessor those that differ from the first.

    Shape: band keys [documents] uint64 to two [pairs] of document numbers.
    """
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if len(same) == 0:
        return order[:0], order[:0]
    position = np.arange(len(order))
    begins = np.ones(len(order), dtype=bool)
    begins[same + 1] = False
    first = np.maximum.accumulate(np.where(begins, position, 0))
    later = order[same + 1]
    earlier = np.concatenate([order[same], order[first[same + 1]]])
    pairs = np.unique(np.stack([earlier, np.concatenate([later, later])], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _root(parents: np.ndarray, number: int) -> int:
    """Return the first document of a cluster, and shorten the way to it for the next call.

    Shape: parents [documents], changed in place.
    """
    root = int(number)
    while parents[root] != root:
        root = int(parents[root])
    while parents[number] != root:
        parents[number], number = root, int(parents[number])
    return root
