"""Build a data folder: read, clean, deduplicate, split, train the tokenizer, tokenise.

The text passes through the disk twice and memory never holds more than a few batches of it.
Everything happens in a temporary folder that becomes the corpus by one rename, so that a
failed build leaves nothing behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from triptych.config.data import DataConfig
from triptych.durable import atomic_folder, sha256_file
from triptych.errors import DataError
from triptych.lm.data.documents import DocumentWriter, keep_only, read_texts
from triptych.lm.data.ingest import Ingested, OnProgress, ingest
from triptych.lm.data.leakage import LeakageCheck
from triptych.lm.data.manifest import FORMAT_VERSION, data_fingerprint, save_manifest
from triptych.lm.data.mixture import times_taken
from triptych.lm.data.shards import shard_dtype
from triptych.lm.data.splits import SPLITS, HeldOut, hold_out
from triptych.lm.data.tokenise import tokenise
from triptych.lm.model.tokenizer import Tokenizer


def build_corpus(
    sources: Sequence[str],
    out: Path,
    config: DataConfig,
    *,
    resolve: Callable[[str], Path] = Path,
    on_progress: OnProgress = lambda stage, done_bytes, total_bytes: None,
) -> dict[str, Any]:
    """Build a data folder from the sources and return its manifest.

    `resolve` turns the reference of an existing tokenizer into a local folder.

    Raises: DataError when a source is unusable or too little text is left; StorageError when
    the folder exists or cannot be written.
    """
    if not sources:
        raise DataError("no source given", hint="try: triptych data build python-docs --out DIR")
    out = Path(out)
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    with atomic_folder(out) as folder:
        # Loaded before the long work, so that a wrong name is an error at once.
        tokenizer = Tokenizer.load(resolve(config.tokenizer)) if config.tokenizer else None
        ingested = ingest(sources, folder, config, on_progress)
        held_out = _hold_out(ingested, config)
        written = _write_documents(ingested, held_out, folder, config.seed, on_progress)
        overlap = _drop_leaked(ingested, written, folder, config, on_progress)
        if tokenizer is None:
            tokenizer = _train_tokenizer(written.chars["train"], folder, config, on_progress)
        tokenizer.save(folder / "tokenizer")
        counts, shards = tokenise(tokenizer, folder, config, written.chars.total(), on_progress)
        tokenizer_sha256 = sha256_file(folder / "tokenizer" / "tokenizer.json")
        manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "fingerprint": data_fingerprint(tokenizer_sha256, shards),
            "seed": config.seed,
            "sources": ingested.sources,
            "counts": counts,
            "licences": {name: n for name, n in sorted(written.licences.items()) if n},
            "split": {"by": held_out.by, **overlap},
            "drops": ingested.reading.to_dict(),
            "vocab_size": tokenizer.vocab_size,
            "boundary_id": tokenizer.boundary_id,
            "tokenizer_sha256": tokenizer_sha256,
            "dtype": shard_dtype(tokenizer.vocab_size).name,
            "shards": shards,
        }
        save_manifest(folder, manifest)
    return manifest


def _hold_out(ingested: Ingested, config: DataConfig) -> HeldOut:
    """Choose the split among the documents that stay."""
    return hold_out(
        np.asarray(ingested.spool.sizes_bytes)[ingested.kept],
        np.asarray(ingested.spool.groups)[ingested.kept],
        validation_frac=config.validation_frac,
        seed=config.seed,
    )


def _write_documents(
    ingested: Ingested, held_out: HeldOut, folder: Path, seed: int, on_progress: OnProgress
) -> DocumentWriter:
    """Write the parquet files, counting near duplicates; return the writer with its counts.

    Raises: DataError when the text is too short to hold any out.
    """
    spool, reading, done, number = ingested.spool, ingested.reading, 0, 0
    total = sum(spool.sizes_bytes)
    with DocumentWriter(folder / "documents") as writer:
        for index, document in enumerate(chain.from_iterable(spool.read())):
            done += spool.sizes_bytes[index]
            if not ingested.kept[index]:
                reading.drop("near_duplicate", document.source, spool.sizes_bytes[index])
                continue
            for split, piece in held_out.place(number, document):
                times = 1
                if split == "train" and (weight := ingested.weights[index]) != 1:
                    times = times_taken(weight, piece.text, seed)
                    if times == 0:
                        reading.drop("by_weight", piece.source, len(piece.text.encode()))
                for _ in range(times):
                    writer.append(split, piece)
            number += 1
            on_progress("writing documents", done, total)
    spool.file.unlink()
    for split in SPLITS:
        if writer.chars[split] == 0:
            raise DataError(
                f"{done:,} bytes in {number} document are too little text to hold some out",
                hint="give more text, or a higher data.validation_frac",
            )
    return writer


def _drop_leaked(
    ingested: Ingested,
    written: DocumentWriter,
    folder: Path,
    config: DataConfig,
    on_progress: OnProgress,
) -> dict[str, float]:
    """Drop validation documents that training nearly contains; report what overlap is left.

    Raises: DataError when none is left.
    """
    documents = folder / "documents"
    check = LeakageCheck(read_texts(documents, "val"))
    done = 0
    for texts in read_texts(documents, "train"):
        check.add_training(texts)
        done += sum(map(len, texts))
        on_progress("checking the split", done, written.chars["train"])
    overlap = check.overlap_frac()
    kept = overlap < config.leakage_frac
    if not kept.any():
        raise DataError(
            f"no validation text is left: training has {overlap.min():.0%} or more of the "
            "eight-word shingles of every document held out",
            hint="give more varied text, another data.seed, or a higher data.leakage_frac",
        )
    if not kept.all():
        gone = keep_only(documents, "val", kept)
        written.licences.subtract(gone["licence"].to_pylist())
        for text, source in zip(gone["text"].to_pylist(), gone["source"].to_pylist(), strict=True):
            ingested.reading.drop("near_duplicate_of_training", source, len(text.encode()))
    return {
        "leakage_frac": config.leakage_frac,
        "overlap_mean_frac": round(float(overlap[kept].mean()), 6),
        "overlap_max_frac": round(float(overlap[kept].max()), 6),
    }


def _train_tokenizer(
    train_chars: int, folder: Path, config: DataConfig, on_progress: OnProgress
) -> Tokenizer:
    """Train a tokenizer on a bounded share of the training text, spread evenly over it."""
    share = min(1.0, config.tokenizer_sample_bytes / train_chars)

    def sample() -> Iterator[str]:
        taken = 0
        texts = chain.from_iterable(read_texts(folder / "documents", "train"))
        for number, text in enumerate(texts):
            key = hashlib.blake2b(f"{config.seed} {number}".encode(), digest_size=8).digest()
            if int.from_bytes(key, "little") <= share * 2**64:
                taken += len(text)
                yield text
            on_progress("reading the tokenizer's sample", taken, share * train_chars)
        on_progress("training the tokenizer", 0, None)

    return Tokenizer.train(sample(), vocab_size=config.vocab_size)
