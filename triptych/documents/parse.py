"""Parse one file, in the process that calls: which reader, which limits, what became of it.

Every failure of a reader ends as an `Unread` with a code; what was read until then is kept. Left
out: the process around it (isolation.py), which also ends what would not end by itself.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from triptych.documents.blocks import Builder, Document, Limits, TooLarge, clean_line
from triptych.documents.kinds import ADVICE, kind_of

_READERS = {
    "text": "texts:read_text",
    "markdown": "texts:read_markdown",
    "code": "texts:read_code",
    "csv": "texts:read_csv",
    "notebook": "texts:read_notebook",
    "subtitles": "texts:read_subtitles",
    "html": "html:read_html",
    "pdf": "pdf:read_pdf",
    "docx": "office:read_docx",
    "pptx": "office:read_pptx",
    "workbook": "office:read_workbook",
    "odt": "office:read_odt",
    "epub": "epub:read_epub",
    "mail": "mail:read_mail",
    "mailbox": "mail:read_mailbox",
    "json": "exports:read_json",
    "xml": "exports:read_xml",
}
_ARCHIVES = frozenset(("docx", "pptx", "workbook", "odt", "epub"))
_MEMBERS = 50_000


def parse(path: Path, name: str, limits: Limits) -> Document:
    """Return a file's blocks and what could not be read; never raises for what a file holds.

    Raises: OSError where the file itself cannot be opened.
    """
    with path.open("rb") as stream:
        start = stream.read(1024)
        stream.seek(0)
        size_bytes = path.stat().st_size
        if size_bytes > limits.file_bytes:
            digest = ""
        else:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    kind = kind_of(path, start)
    builder = Builder(limits)
    if size_bytes > limits.file_bytes:
        builder.miss(name, "too_large", f"the file is larger than {limits.file_bytes:,} bytes")
    elif not size_bytes:
        builder.miss(name, "empty", "the file is empty")
    elif reader := _READERS.get(kind):
        _read(path, name, kind, reader, builder)
    elif kind == "protected":
        builder.miss(name, "protected", "it is protected by a password")
    elif kind == "damaged":
        builder.miss(name, "damaged", "it is not what its name says")
    else:
        advice = ADVICE.get(path.suffix.lower())
        reason = f"{path.suffix or 'this kind of'} files are not read"
        builder.miss(name, "unknown_type", f"{reason}: {advice}" if advice else reason)
    if not builder.blocks and not builder.unread:
        builder.miss(name, "no_text", "there is no text in it")
    title = clean_line(builder.title)[:300] or path.stem
    return Document(
        name, title, kind, digest, size_bytes, builder.text,
        tuple(builder.blocks), tuple(builder.unread),
    )  # fmt: skip


def _read(path: Path, name: str, kind: str, reader: str, builder: Builder) -> None:
    try:
        if kind in _ARCHIVES and zipfile.is_zipfile(path):
            _check_archive(path, builder.limits)
        module, function = reader.split(":")
        read: Callable[[Path, Builder], None] = getattr(
            import_module(f"triptych.documents.{module}"), function
        )
        read(path, builder)
    except TooLarge as error:
        builder.miss(name, error.code, error.reason)
    except MemoryError:
        builder.miss(
            name, "memory", f"reading it takes more than {builder.limits.memory_bytes:,} bytes"
        )
    except RecursionError:
        builder.miss(name, "nested", "it is nested too deeply")
    except Exception as error:  # boundary: a library that reads a file may raise anything
        reason = clean_line(str(error).replace(str(path), name))[:200]
        builder.miss(name, "damaged", f"it cannot be read: {reason}")


def _check_archive(path: Path, limits: Limits) -> None:
    """Refuse an archive whose content would be larger than allowed, before anything is unpacked.

    Raises: TooLarge.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    expanded = sum(member.file_size for member in members)
    if expanded > limits.expanded_bytes or len(members) > _MEMBERS:
        raise TooLarge("expansion", f"it unpacks to {expanded:,} bytes in {len(members):,} files")
