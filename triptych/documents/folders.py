"""Every file below a folder, in name order, with what was passed over and why.

Left out: `.gitignore` rules of source code folders.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from triptych.documents.blocks import Document, Limits
from triptych.documents.isolation import DocumentReader, printable

# Folders that programs fill; they hold nothing that a person wrote to be read.
_PASSED_OVER = frozenset(
    ("node_modules", "__pycache__", "venv", "site-packages", "__MACOSX", "$RECYCLE.BIN")
)


@dataclass
class FolderReading:
    """Count what a folder held: files read, read in part, not read (by code), passed over."""

    read: int = 0
    partly: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)

    def count(self, document: Document) -> None:
        """Count one file."""
        if not document.is_read:
            self.unread.update([document.unread[0].code])
        elif document.unread:
            self.partly += 1
        else:
            self.read += 1


def read_folder(
    folder: Path, *, limits: Limits | None = None, reading: FolderReading | None = None
) -> Iterator[Document]:
    """Yield every file below a folder as a document, named by its path below the folder.

    Hidden files, folders that programs fill and linked folders are passed over and counted in
    `reading`.

    Raises: NotADirectoryError where `folder` is not a folder.
    """
    reading = reading if reading is not None else FolderReading()
    with DocumentReader(limits) as reader:
        for path, name in files_below(Path(folder), reading):
            document = reader.read(path, name)
            reading.count(document)
            yield document


def files_below(folder: Path, reading: FolderReading) -> Iterator[tuple[Path, str]]:
    """Yield every file and its name below the folder, in the order of the names.

    Raises: NotADirectoryError.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    found = []
    for parent, folders, files in os.walk(folder):
        for name in list(folders):
            path = Path(parent, name)
            if name.startswith(".") or name in _PASSED_OVER:
                folders.remove(name)
                reading.passed_over["hidden" if name.startswith(".") else "program_folder"] += 1
            elif path.is_symlink():
                # os.walk does not follow it; a link may lead anywhere, or in a circle.
                reading.passed_over["linked_folder"] += 1
        for name in files:
            path = Path(parent, name)
            if name.startswith((".", "~$")):
                reading.passed_over["hidden"] += 1
            elif not path.is_file():
                reading.passed_over["not_a_file"] += 1
            else:
                found.append((printable(path.relative_to(folder).as_posix()), path))
    for name, path in sorted(found, key=lambda item: item[0]):
        yield path, name
