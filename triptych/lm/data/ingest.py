"""The first pass over the sources: read, clean, drop what is unusable or occurred before.

What stays waits in the spool, with a mark for each document that is a near duplicate of an
earlier one. Left out: everything that needs to know the whole corpus first (build.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from triptych.config.data import DataConfig
from triptych.durable import require_free_space
from triptych.errors import DataError
from triptych.lm.data.cleaning import clean, reason_to_drop
from triptych.lm.data.document import Document, Reading, parts
from triptych.lm.data.duplicates import NearDuplicates
from triptych.lm.data.mixture import MixedSource, parse_sources
from triptych.lm.data.readers.sources import display_name, read_source
from triptych.lm.data.spool import Spool

OnProgress = Callable[[str, float, float | None], None]
"""Called with the stage, the bytes done and the bytes in all, or None when unknown."""

# Text hashed together: the arrays behind it take some thirty times as much memory.
_BATCH_CHARS = 1_000_000
# The spool, the documents and the tokens of a text together take less than this.
_DISK_FACTOR = 2
_MIN_PART_CHARS = 1024


@dataclass
class Ingested:
    """Hold the spool and what was counted while filling it."""

    spool: Spool
    kept: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    weights: array[float] = field(default_factory=lambda: array("d"))
    """The weight of each document's source, in the order of the spool."""
    sources: list[dict[str, Any]] = field(default_factory=list)
    reading: Reading = field(default_factory=Reading)


def ingest(
    sources: Sequence[str], folder: Path, config: DataConfig, on_progress: OnProgress
) -> Ingested:
    """Read every source into a spool below `folder`.

    Raises: DataError when a source gives no usable text.
    """
    seen: set[bytes] = set()
    batch: list[str] = []
    batch_chars = 0
    threshold = config.near_duplicate_frac
    with NearDuplicates(folder / "signatures", min_similarity_frac=threshold) as duplicates:
        with Spool(folder / "spool.parquet") as spool:
            ingested = Ingested(spool)
            for source in parse_sources(sources):
                for document in _read(source, ingested, config, seen, on_progress):
                    spool.append(document)
                    ingested.weights.append(source.weight)
                    batch.append(document.text)
                    batch_chars += len(document.text)
                    if batch_chars >= _BATCH_CHARS:
                        duplicates.add(batch)
                        batch, batch_chars = [], 0
        duplicates.add(batch)
        on_progress("finding near duplicates", 0, None)
        ingested.kept = duplicates.kept()
    return ingested


def _read(
    mixed: MixedSource,
    ingested: Ingested,
    config: DataConfig,
    seen: set[bytes],
    on_progress: OnProgress,
) -> Iterator[Document]:
    """Yield the usable new documents of one source, up to its limit."""
    reading, source, config = Reading(), mixed.name, mixed.settings(config)
    if config.max_bytes:
        # A document longer than the limit gives its beginning.
        part_chars = max(_MIN_PART_CHARS, min(config.max_document_chars, config.max_bytes // 4))
        config = dataclasses.replace(config, max_document_chars=part_chars)
    out_disk = ingested.spool.file.parent.parent
    stage = f"reading {source}"
    count = taken_bytes = 0
    for original in read_source(source, config, reading):
        if count == 0:
            expected = min(reading.total_bytes, config.max_bytes or reading.total_bytes)
            require_free_space(out_disk, _DISK_FACTOR * expected)
        for document in _usable(original, config, seen, reading):
            size_bytes = len(document.text.encode())
            if config.max_bytes and taken_bytes + size_bytes > config.max_bytes:
                break
            count, taken_bytes = count + 1, taken_bytes + size_bytes
            yield document
        else:
            on_progress(stage, *_position(reading, taken_bytes, config.max_bytes))
            continue
        break
    if count == 0:
        raise DataError(
            f"{source} holds no usable text"
            + (f"; dropped: {reading.summary()}" if reading.dropped else ""),
            hint=_hint(reading, config),
        )
    name = display_name(source)
    facts: dict[str, Any] = {"source": name, "documents": count, "bytes": taken_bytes}
    ingested.sources.append(facts | mixed.facts())
    ingested.reading.merge(reading)


def _usable(
    original: Document, config: DataConfig, seen: set[bytes], reading: Reading
) -> Iterator[Document]:
    for part in parts(original, config.max_document_chars):
        text = clean(part.text)
        reason = reason_to_drop(text, min_chars=config.min_chars)
        if reason is None:
            key = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                yield Document(text, part.source, part.licence, part.group)
                continue
            reason = "exact_duplicate"
        reading.drop(reason, part.source, len(text.encode()))


def _hint(reading: Reading, config: DataConfig) -> str:
    """Return what helps against the reason for which most was dropped."""
    general = (
        f"a document is UTF-8 text of at least {config.min_chars} characters, new and within "
        "data.max_bytes"
    )
    if not reading.dropped:
        return general
    reason, _ = max(reading.dropped.items(), key=lambda item: item[1])
    known = {
        "invalid_json": "jsonl is one JSON object a line, or one array of objects",
        "not_text": "data.text_column must name a column that holds text",
        "invalid_utf8": "convert the files to UTF-8, for example with iconv",
    }
    return reading.advice.get(reason) or known.get(reason, general)


def _position(reading: Reading, taken_bytes: int, limit_bytes: int) -> tuple[float, float | None]:
    """Return how far a source is, by whichever ends it first: its files or the limit."""
    read_frac = reading.read_bytes / reading.total_bytes if reading.total_bytes else 0.0
    if limit_bytes and taken_bytes / limit_bytes >= read_frac:
        return taken_bytes, limit_bytes
    return reading.read_bytes, reading.total_bytes or None
