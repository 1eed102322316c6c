"""Baselines without a neural network: token frequencies, and a file compressor (xz).

All in bits per byte of the validation text. The compressor is measured twice: on the validation
text alone, and after it has read the training text, as the model has.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triptych.lm.data.shards import TokenShards
from triptych.lm.model.tokenizer import Tokenizer

OnProgress = Callable[[str], None]
"""Called a few times a second with what is being measured and how far it is."""

# Text that the compressor reads: the end of the training text, and the validation text up to this
# size. It remembers 64 MiB and reads about 2 MB/s.
_TEXT_BYTES = 16_000_000
_BLOCK_TOKENS = 1 << 20
_DECODED_TOKENS = 1 << 16
_FED_BYTES = 1 << 19
# A character of four bytes cut by the end of a block needs at most three more tokens.
_LONGEST_CUT = 3


@dataclass(frozen=True)
class Yardsticks:
    """Bits per byte of the baselines."""

    unigram_bpb: float
    xz_bpb: float
    xz_primed_bpb: float


def measure_yardsticks(
    train: TokenShards,
    val: TokenShards,
    tokenizer: Tokenizer,
    on_progress: OnProgress = lambda text: None,
) -> Yardsticks:
    """Return the baselines of a corpus, in memory that its size does not change."""
    lengths = tokenizer.token_byte_lengths()
    on_progress("yardsticks: counting tokens")
    unigram = unigram_bits(train, val) / int(token_counts(val) @ lengths.astype(np.int64))
    text = text_bytes(val, tokenizer, lengths, _TEXT_BYTES)
    alone = _xz_bytes([text], "the validation text", on_progress)
    primer = text_bytes(train, tokenizer, lengths, _TEXT_BYTES)
    before = _xz_bytes([primer], "the training text", on_progress)
    both = _xz_bytes([primer, text], "both", on_progress)
    return Yardsticks(
        unigram_bpb=unigram,
        xz_bpb=8 * alone / len(text),
        xz_primed_bpb=8 * (both - before) / len(text),
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


def text_bytes(
    shards: TokenShards, tokenizer: Tokenizer, lengths: np.ndarray, max_bytes: int
) -> bytes:
    """Return the end of a split's text, at most `max_bytes`, reading only the tokens it takes.

    Boundary tokens have no text.

    Shape: `lengths` (V,), from `Tokenizer.token_byte_lengths`.
    """
    first, held = len(shards), 0
    while first > 0 and held < max_bytes:
        start = max(0, first - _DECODED_TOKENS)
        held += int(lengths[shards.read(start, first - start)].sum())
        first = start
    pieces = []
    while first < len(shards):
        ids = shards.read(first, _DECODED_TOKENS + _LONGEST_CUT)
        count = min(len(ids), _DECODED_TOKENS)
        # Half a character at the end of a block decodes to a replacement mark.
        while (text := tokenizer.decode(ids[:count].tolist())).endswith("\ufffd"):
            if count == len(ids):
                break
            count += 1
        pieces.append(text.encode())
        first += count
    return b"".join(pieces)[-max_bytes:]


def _xz_bytes(parts: list[bytes], name: str, on_progress: OnProgress) -> int:
    """Return the bytes that xz makes of some texts in a row."""
    compressor = lzma.LZMACompressor(preset=9)
    total = sum(map(len, parts))
    size = done = 0
    for part in parts:
        for start in range(0, len(part), _FED_BYTES):
            on_progress(f"yardsticks: xz reads {name}, {done / total:.0%}")
            piece = memoryview(part)[start : start + _FED_BYTES]
            size += len(compressor.compress(piece))
            done += len(piece)
    return size + len(compressor.flush())
