"""From pasted text, uploads or a dataset on the hub to a corpus, and a look at what is in it.

A corpus is built by `triptych data build` in a process of its own, which can neither slow the page
down nor read more than its visitor may.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from triptych.config import Config
from triptych.documents import READABLE_SUFFIXES
from triptych.errors import UsageError
from triptych.formatting import format_bytes, format_count
from triptych.lm.data.documents import read_samples
from triptych.lm.data.manifest import load_manifest
from triptych.lm.data.readers.files import COMPRESSIONS, TEXT_TYPES
from triptych.lm.data.readers.hub_datasets import parse_reference
from triptych.lm.data.readers.records import RECORD_READERS
from triptych.lm.runs.store import slug
from triptych.panels.command import run_triptych
from triptych.panels.explain import explained
from triptych.panels.visitor import Visitor

MIN_TEXT_CHARS = 2000
# Held out of a few pages; the usual share of them would be a paragraph, which measures nothing.
SMALL_TEXT_FRAC = 0.1
BUILD_S = 3600.0
SAMPLES = 3
SAMPLE_CHARS = 400
DATASET_BYTES = 20_000_000
PYTHON_DOCS = "python-docs"
_PYTHON_DOCS_BYTES = 1_000_000
FILE_TYPES = sorted({*TEXT_TYPES, *RECORD_READERS, *READABLE_SUFFIXES})


def corpora(folder: Path) -> list[tuple[str, str]]:
    """List the corpora in a folder."""
    found = sorted(folder.glob("*/manifest.json")) if folder.is_dir() else []
    return [(path.parent.name, str(path.parent)) for path in found]


def build(
    folder: Path,
    config: Config,
    visitor: Visitor,
    *,
    text: str = "",
    files: Sequence[str] = (),
    dataset: str = "",
    tokenizer: str = "",
    name: str = "",
) -> Path:
    """Build a corpus below `folder`, or find the one that the same text gave before.

    Raises: UsageError for what cannot be learned from, in the words of `triptych data build`.
    """
    sources = [Path(file) for file in files]
    _check(text, sources, dataset, config.panels.upload_bytes)
    digest = hashlib.sha256(f"{dataset} {tokenizer} {text}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    out = folder / f"{slug(name) or 'text'}-{digest.hexdigest()[:8]}"
    if (out / "manifest.json").exists():
        return out
    small = dataset == PYTHON_DOCS or not (sources or dataset)
    vocabulary = 1024 if small else config.data.vocab_size
    with tempfile.TemporaryDirectory() as place:
        texts = Path(place) / "text"
        texts.mkdir()
        for number, source in enumerate(sources):
            shutil.copy(source, texts / f"{number}-{Path(source.name).name}")
        for number, part in enumerate(documents(text)):
            (texts / f"part-{number:04d}.txt").write_text(part, encoding="utf-8")
        wanted = [dataset] if dataset else [str(texts)]
        limit = DATASET_BYTES if dataset else config.panels.upload_bytes
        limit = _PYTHON_DOCS_BYTES if dataset == PYTHON_DOCS else limit
        choices = ["--tokenizer", tokenizer] if tokenizer else ["--vocab-size", str(vocabulary)]
        # However small a file is, no more than this comes out of it.
        held_out = ["--set", f"data.validation_frac={SMALL_TEXT_FRAC:g}"] if small else []
        arguments = [*wanted, "--out", str(out), "--max-bytes", str(limit), *choices]
        _run([*arguments, *held_out, "--set", "data.min_chars=16"], visitor)
    return out


def describe(folder: Path) -> str:
    """Draw what a corpus holds: counts, what was dropped, and a few documents."""
    manifest = load_manifest(folder)
    train, val = manifest["counts"]["train"], manifest["counts"]["val"]
    figures = {
        "documents": f"{train['documents'] + val['documents']:,}",
        "of text": format_bytes(train["bytes"] + val["bytes"]),
        "tokens to learn from": format_count(train["tokens"]),
        "tokens held out": format_count(val["tokens"]),
        "tokens in the vocabulary": f"{manifest['vocab_size']:,}",
        "bytes in a token": f"{train['bytes'] / max(1, train['tokens']):.2f}",
    }
    cells = "".join(
        f"<div><b>{value}</b><span>{explained(name)}</span></div>"
        for name, value in figures.items()
    )
    dropped = ", ".join(
        f"{drop['documents']:,} {reason.replace('_', ' ')}"
        for reason, drop in manifest["drops"].items()
        if drop["documents"]
    )
    left_out = f'<p class="quiet">Left out: {escape(dropped)}.</p>' if dropped else ""
    samples = "".join(
        f'<div class="sample"><span class="quiet">{escape(Path(source).name)}</span>\n'
        f"{escape(text[:SAMPLE_CHARS])}{'…' if len(text) > SAMPLE_CHARS else ''}</div>"
        for source, text in read_samples(folder / "documents", SAMPLES)
    )
    return f'<div id="corpus"><div class="figures">{cells}</div>{left_out}{samples}</div>'


def documents(text: str, about_chars: int = 2000) -> list[str]:
    """Cut pasted text at paragraph ends into documents, so that some can be held out."""
    parts: list[str] = []
    current = ""
    for paragraph in re.split(r"(?<=\n)\s*\n", text):
        current += paragraph + "\n"
        if len(current) >= about_chars:
            parts.append(current)
            current = ""
    if current.strip():
        parts.append(current)
    return parts


def _check(text: str, sources: Sequence[Path], dataset: str, upload_bytes: int) -> None:
    """Refuse what is no text, or too little or too much of it."""
    for source in sources:
        suffixes = [suffix.lower() for suffix in source.suffixes]
        kind = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in COMPRESSIONS else source.suffix
        if kind.lower() not in FILE_TYPES:
            raise UsageError(
                f"{source.name} is of no type that is read here",
                hint=f"use {', '.join(FILE_TYPES)}",
            )
        found_bytes = source.stat().st_size
        if found_bytes > upload_bytes:
            raise UsageError(
                f"{source.name} has {format_bytes(found_bytes)}, "
                f"{format_bytes(upload_bytes)} are allowed",
                hint="build a large corpus with `triptych data build`",
            )
    if dataset and dataset != PYTHON_DOCS and parse_reference(dataset) is None:
        raise UsageError(f"{dataset!r} names no dataset", hint="write it as owner/name")
    if sources or dataset:
        return
    if not text.strip():
        raise UsageError("there is no text to learn from", hint="paste some, or choose a corpus")
    if len(text) < MIN_TEXT_CHARS:
        raise UsageError(
            f"{len(text):,} characters are too few to learn from",
            hint=f"paste at least {MIN_TEXT_CHARS:,}; a few pages",
        )


def _run(arguments: Sequence[str], visitor: Visitor) -> None:
    run_triptych(["data", "build", *arguments], visitor, BUILD_S)
