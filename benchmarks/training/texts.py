"""Token shards for benchmarks, straight from arrays and text files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triptych.lm.data.manifest import data_fingerprint, save_manifest
from triptych.lm.data.shards import ShardWriter, shard_dtype
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.train.setup import Corpus


def corpus_of(
    tokenizer: Tokenizer, train: Sequence[Sequence[int]], val: Sequence[Sequence[int]], vocab: int
) -> Corpus:
    """Write documents of token ids as a data folder and open it."""
    folder = Path(tempfile.mkdtemp(prefix="triptych-bench-"))
    tokenizer.save(folder / "tokenizer")
    shards = []
    for split, documents in (("train", train), ("val", val)):
        with ShardWriter(folder, split, dtype=shard_dtype(vocab), shard_tokens=1 << 40) as writer:
            for ids in documents:
                writer.append(np.array([tokenizer.boundary_id, *ids]), 1)
        shards += writer.entries
    manifest = {
        "format_version": 1,
        "fingerprint": data_fingerprint("benchmark", shards),
        "vocab_size": vocab,
        "boundary_id": tokenizer.boundary_id,
        "dtype": shard_dtype(vocab).name,
        "shards": shards,
    }
    save_manifest(folder, manifest)
    return Corpus.open(folder)


def text_corpus(train: Sequence[str], val: Sequence[str], vocab_size: int) -> Corpus:
    """Train a tokenizer on the training texts and encode both splits."""
    tokenizer = Tokenizer.train(iter(train), vocab_size=vocab_size)
    splits = ([tokenizer.encode(text) for text in texts] for texts in (train, val))
    return corpus_of(tokenizer, *splits, tokenizer.vocab_size)


def read(path: Path) -> str:
    """Read a text."""
    if not path.exists():
        raise SystemExit(f"no {path}: this part needs the texts, see --texts")
    return path.read_text(encoding="utf-8")
