"""Baselines without a neural network: token frequencies, and a file compressor (xz).

All in bits per byte of the validation text. The compressor is measured twice: on the validation
text alone, and after it has read the training text, as the model has.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass

import numpy as np

from triptych.lm.data.shards import TokenShards
from triptych.lm.model.tokenizer import Tokenizer

# Training text that the compressor reads first; it remembers 64 MiB and reads about 2 MB/s.
_PRIMER_BYTES = 16_000_000
_BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class Yardsticks:
    """Bits per byte of the baselines."""

    unigram_bpb: float
    xz_bpb: float
    xz_primed_bpb: float


def measure_yardsticks(train: TokenShards, val: TokenShards, tokenizer: Tokenizer) -> Yardsticks:
    """Return the baselines of a corpus."""
    text = text_bytes(val, tokenizer, len(val))
    primer = text_bytes(train, tokenizer, len(train))[-_PRIMER_BYTES:]
    alone, before = _xz_bytes(text), _xz_bytes(primer)
    return Yardsticks(
        unigram_bpb=unigram_bits(train, val) / len(text),
        xz_bpb=8 * alone / len(text),
        xz_primed_bpb=8 * (_xz_bytes(primer + text) - before) / len(text),
    )


def unigram_bits(train: TokenShards, val: TokenShards) -> float:
    """Return the bits of the validation tokens under a unigram model.

    Frequencies are counted on the training tokens, plus one for every token of the vocabulary.
    """
    counts = token_counts(train) + 1
    bits = -np.log2(counts / counts.sum())
    return float((token_counts(val) * bits).sum())


def token_counts(shards: TokenShards) -> np.ndarray:
    """Return how often each token occurs.

    Shape: (V,).
    """
    counts = np.zeros(shards.vocab_size, dtype=np.int64)
    for start in range(0, len(shards), _BLOCK_TOKENS):
        counts += np.bincount(shards.read(start, _BLOCK_TOKENS), minlength=shards.vocab_size)
    return counts


def text_bytes(shards: TokenShards, tokenizer: Tokenizer, tokens: int) -> bytes:
    """Return the text of the last `tokens` tokens of a split; boundary tokens have none."""
    first = max(0, len(shards) - tokens)
    return tokenizer.decode(shards.read(first, tokens).tolist()).encode()


def _xz_bytes(data: bytes) -> int:
    return len(lzma.compress(data, preset=9))
