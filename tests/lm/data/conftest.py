"""Varied text without a download, and one small corpus that the tests of this room share."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from triptych.config.data import DataConfig
from triptych.lm.data.build import build_corpus

SMALL = DataConfig(vocab_size=400, validation_frac=0.1)


def prose(count: int, *, seed: int = 0, words: int = 80) -> list[str]:
    """Documents of made-up words that share hardly a shingle with each other."""
    generator = random.Random(seed)
    syllables = [c + v for c in "bcdfglmnprstv" for v in "aeiou"]
    lexicon = ["".join(generator.choices(syllables, k=generator.randint(1, 3))) for _ in range(900)]
    documents = []
    for _ in range(count):
        drawn = generator.choices(lexicon, k=words)
        lines = [" ".join(drawn[start : start + 12]) for start in range(0, words, 12)]
        documents.append(".\n".join(lines) + ".")
    return documents


def write_documents(folder: Path, documents: list[str]) -> Path:
    """Write each document into a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(documents):
        (folder / f"{number:04d}.txt").write_text(text, encoding="utf-8")
    return folder


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Yield a folder of one's own, without root's right to read and write everything."""
    with tempfile.TemporaryDirectory() as name:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("text") / "notes", prose(120))


@pytest.fixture(scope="session")
def corpus(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    build_corpus([str(text_folder)], out, SMALL)
    return out
