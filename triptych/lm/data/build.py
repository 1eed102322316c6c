"""Build a data folder: read, clean, deduplicate, split, train the tokenizer, tokenise.

The text passes through the disk twice and memory never holds more than a few batches of it.
Everything happens in a temporary folder that becomes the corpus by one rename.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from triptych.config.data import DataConfig
from triptych.durable import atomic_folder, sha256_file
from triptych.errors import DataError
from triptych.lm.data.cleaning import clean, reason_to_drop
from triptych.lm.data.document import Document, Drops
from triptych.lm.data.manifest import FORMAT_VERSION, data_fingerprint, save_manifest
from triptych.lm.data.shards import ShardWriter, shard_dtype
from triptych.lm.data.sources import read_source
from triptych.lm.data.splits import choose_validation
from triptych.lm.data.spool import Spool
from triptych.lm.model.tokenizer import Tokenizer

SPLITS = ("train", "val")
_SCHEMA = pa.schema([(name, pa.string()) for name in ("text", "source", "licence", "split")])
OnProgress = Callable[[str, float, float | None], None]


@dataclass
class _Build:
    config: DataConfig
    folder: Path
    report: OnProgress
    drops: Drops = field(default_factory=Drops)
    sources: list[dict[str, Any]] = field(default_factory=list)
    licences: Counter[str] = field(default_factory=Counter)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def build_corpus(
    sources: Sequence[str],
    out: Path,
    config: DataConfig,
    *,
    resolve: Callable[[str], Path] = Path,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Build a data folder from the sources and return its manifest.

    `resolve` turns the reference of an existing tokenizer into a local folder;
    `on_progress(stage, done_bytes, total_bytes)` is called while each stage advances.

    Raises: DataError when a source is unusable or too little text is left; StorageError when
    the folder exists or cannot be written.
    """
    if not sources:
        raise DataError("no source given", hint="try: triptych data build python-docs --out DIR")
    with atomic_folder(Path(out)) as folder:
        build = _Build(config, folder, on_progress)
        spool = _collect(build, sources)
        validation = _split(build, spool)
        _write_documents(build, spool, validation)
        spool.file.unlink()
        tokenizer = _tokenizer(build, resolve)
        manifest = _tokenise(build, tokenizer)
        save_manifest(folder, manifest)
    return manifest


def _collect(build: _Build, sources: Sequence[str]) -> Spool:
    """Read and clean every source, dropping what is unusable or occurred before."""
    spool = Spool(build.folder / "spool.parquet")
    seen: set[bytes] = set()
    for source in sources:
        taken, taken_bytes = 0, 0
        for document in read_source(source, build.config, build.drops):
            text = clean(document.text)
            size_bytes = len(text.encode())
            reason = reason_to_drop(text, min_chars=build.config.min_chars)
            if reason is None:
                key = hashlib.blake2b(text.encode(), digest_size=16).digest()
                reason = "exact_duplicate" if key in seen else None
                seen.add(key)
            if reason is not None:
                build.drops.add(reason, document.source, size_bytes)
                continue
            limit = build.config.max_bytes
            if limit and taken_bytes + size_bytes > limit:
                break
            spool.append(Document(text, document.source, document.licence, document.group))
            taken, taken_bytes = taken + 1, taken_bytes + size_bytes
            build.report(f"reading {source}", taken_bytes, limit or None)
        build.sources.append({"source": source, "documents": taken, "bytes": taken_bytes})
    spool.finish()
    if len(spool) == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in build.drops.counts.items())
        raise DataError(
            "the sources hold no usable text" + (f" (dropped: {reasons})" if reasons else ""),
            hint="documents are text of at least data.min_chars characters",
        )
    return spool


def _split(build: _Build, spool: Spool) -> np.ndarray:
    config = build.config
    return choose_validation(
        spool.sizes_bytes,
        spool.groups,
        validation_frac=config.validation_frac,
        seed=config.seed,
    )


def _write_documents(build: _Build, spool: Spool, validation: np.ndarray) -> None:
    """Write the documents of each split as parquet."""
    folder = build.folder / "documents"
    folder.mkdir()
    writers = {
        split: pq.ParquetWriter(folder / f"{split}.parquet", _SCHEMA, compression="zstd")
        for split in SPLITS
    }
    build.counts = {split: {"documents": 0, "bytes": 0} for split in SPLITS}
    row = 0
    for batch in spool.read():
        rows: dict[str, list[Document]] = {split: [] for split in SPLITS}
        for document in batch:
            rows["val" if validation[row] else "train"].append(document)
            row += 1
        for split, documents in rows.items():
            _write(build, writers[split], split, documents)
    for writer in writers.values():
        writer.close()


def _write(build: _Build, writer: pq.ParquetWriter, split: str, documents: list[Document]) -> None:
    if not documents:
        return
    columns = [
        [document.text for document in documents],
        [document.source for document in documents],
        [document.licence for document in documents],
        [split] * len(documents),
    ]
    writer.write_table(pa.table([pa.array(c, pa.string()) for c in columns], schema=_SCHEMA))
    build.counts[split]["documents"] += len(documents)
    build.counts[split]["bytes"] += sum(len(text.encode()) for text in columns[0])
    build.licences.update(columns[2])


def _texts(folder: Path, split: str) -> Iterator[list[str]]:
    with pq.ParquetFile(folder / "documents" / f"{split}.parquet") as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, ["text"], use_threads=False)["text"].to_pylist()


def _tokenizer(build: _Build, resolve: Callable[[str], Path]) -> Tokenizer:
    config = build.config
    if config.tokenizer:
        tokenizer = Tokenizer.load(resolve(config.tokenizer))
    else:
        build.report("training the tokenizer", 0, None)
        tokenizer = Tokenizer.train(_sample(build), vocab_size=config.vocab_size)
    tokenizer.save(build.folder / "tokenizer")
    return tokenizer


def _sample(build: _Build) -> Iterator[str]:
    """Yield a bounded share of the training text, spread evenly over it."""
    share = build.config.tokenizer_sample_bytes / max(1, build.counts["train"]["bytes"])
    row = 0
    for texts in _texts(build.folder, "train"):
        for text in texts:
            key = hashlib.blake2b(f"{build.config.seed} {row}".encode(), digest_size=8).digest()
            if share >= 1 or int.from_bytes(key, "little") < share * 2**64:
                yield text
            row += 1


def _tokenise(build: _Build, tokenizer: Tokenizer) -> dict[str, Any]:
    """Write the shards and return the finished manifest."""
    dtype = shard_dtype(tokenizer.vocab_size)
    entries: list[dict[str, Any]] = []
    done, total = 0, sum(count["bytes"] for count in build.counts.values())
    for split in SPLITS:
        writer = ShardWriter(
            build.folder, split, dtype=dtype, shard_tokens=build.config.shard_tokens
        )
        with writer:
            for texts in _texts(build.folder, split):
                ids = tokenizer.encode_batch(texts)
                flat = [token for document in ids for token in (tokenizer.boundary_id, *document)]
                writer.append(np.array(flat, dtype=dtype), len(texts))
                done += sum(map(len, texts))
                build.report("tokenising", done, total)
        entries += writer.entries
        build.counts[split]["tokens"] = sum(entry["tokens"] for entry in writer.entries)
    tokenizer_sha256 = sha256_file(build.folder / "tokenizer" / "tokenizer.json")
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": data_fingerprint(tokenizer_sha256, entries),
        "seed": build.config.seed,
        "sources": build.sources,
        "counts": build.counts,
        "licences": dict(sorted(build.licences.items())),
        "drops": build.drops.to_dict(),
        "vocab_size": tokenizer.vocab_size,
        "boundary_id": tokenizer.boundary_id,
        "tokenizer_sha256": tokenizer_sha256,
        "dtype": dtype.name,
        "shards": entries,
    }
