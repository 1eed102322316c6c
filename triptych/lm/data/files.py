"""Read documents from files and folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from triptych.config.data import DataConfig
from triptych.lm.data.document import Document, Drops

_TEXT = (".txt", ".md")


def read_files(path: Path, config: DataConfig, drops: Drops) -> Iterator[Document]:
    """Yield the documents of a file, or of every readable file below a folder."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    for file in files:
        name = path.name if file == path else f"{path.name}/{file.relative_to(path).as_posix()}"
        if file != path and file.suffix not in _TEXT:
            drops.add("unknown_type", name)
            continue
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            drops.add("invalid_utf8", name)
            continue
        yield Document(text, name, config.licence, name)
