"""The last pass: documents in, token shards out, at the speed of the tokenizer itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from triptych.config.data import DataConfig
from triptych.lm.data.documents import read_texts
from triptych.lm.data.ingest import OnProgress
from triptych.lm.data.shards import ShardWriter, shard_dtype
from triptych.lm.data.splits import SPLITS
from triptych.lm.model.tokenizer import Tokenizer

# Text encoded at once: each token of it takes about a hundred bytes until it is a number.
_ENCODE_CHARS = 2_000_000


def tokenise(
    tokenizer: Tokenizer,
    folder: Path,
    config: DataConfig,
    total_chars: int,
    on_progress: OnProgress,
) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
    """Turn the documents below a folder into shards beside them.

    Returns: documents, bytes and tokens of each split, and the shards as the manifest lists them.
    """
    dtype = shard_dtype(tokenizer.vocab_size)
    entries: list[dict[str, Any]] = []
    counts: dict[str, dict[str, int]] = {}
    done = 0
    for split in SPLITS:
        size_bytes = 0
        with ShardWriter(folder, split, dtype=dtype, shard_tokens=config.shard_tokens) as writer:
            for texts in _batches(read_texts(folder / "documents", split)):
                writer.append(tokenizer.encode_documents(texts, dtype), len(texts))
                size_bytes += sum(len(text.encode()) for text in texts)
                done += sum(map(len, texts))
                on_progress("tokenising", done, total_chars)
        entries += writer.entries
        counts[split] = {
            "documents": sum(entry["documents"] for entry in writer.entries),
            "bytes": size_bytes,
            "tokens": sum(entry["tokens"] for entry in writer.entries),
        }
    return counts, entries


def _batches(groups: Iterator[list[str]]) -> Iterator[list[str]]:
    batch: list[str] = []
    chars = 0
    for text in chain.from_iterable(groups):
        batch.append(text)
        chars += len(text)
        if chars >= _ENCODE_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch
