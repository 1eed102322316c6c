"""Settings of corpus building."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Settings of corpus building."""

    vocab_size: Annotated[int, Field(ge=259, le=1_000_000)] = 8192
    """Tokens of a newly trained tokenizer, 256 bytes and 3 special tokens included."""

    tokenizer: str = ""
    """Folder or hub id of an existing tokenizer; empty trains one on this corpus."""

    tokenizer_sample_bytes: Annotated[int, Field(ge=1)] = 64_000_000
    """Bytes of training text the tokenizer is trained on; bounds its memory and time."""

    validation_frac: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Share of the bytes held out for validation, in whole documents."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Chooses the split and the tokenizer's sample; same inputs and seed give the same bytes."""

    max_bytes: Annotated[int, Field(ge=0)] = 0
    """Bytes of text taken from each source, in whole documents; 0 takes everything."""

    min_chars: Annotated[int, Field(ge=1)] = 32
    """Characters below which a document is dropped as too short."""

    max_document_chars: Annotated[int, Field(ge=1024)] = 1_000_000
    """Characters above which a document is cut into parts, at a paragraph where possible; the
    parts of a document always share a split."""

    text_documents: Literal["file", "line", "paragraph"] = "file"
    """What one document is in a text file: the file, each line, or each block between blank
    lines."""

    text_column: str = "text"
    """Column or key that holds the text in jsonl, csv, parquet and hub datasets."""

    follow_links: bool = False
    """Read linked folders below a source, each once; otherwise they are counted and left out."""

    licence: str = "unknown"
    """Licence recorded for files that do not say their own."""

    near_duplicate_frac: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of common five-word shingles (Jaccard) from which the later of two documents is
    dropped; 1 drops only the same words."""

    leakage_frac: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of a validation document's eight-word shingles found in training from which it is
    dropped as a near duplicate; 1 drops only what training contains whole."""

    shard_tokens: Annotated[int, Field(ge=1024)] = 100_000_000
    """Tokens per shard file."""
