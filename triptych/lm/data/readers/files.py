"""Read documents from files and folders, whatever is in them.

Plain text and records are streamed: no more than one part of a document, or one record, is in
memory. Everything else (PDF, HTML, office files, notebooks, source code) is read by
`triptych.documents`, each file in a process of its own. Below a folder nothing ends the reading: a
file that cannot be read is dropped and counted by its reason. Left out: what is inside a record
(records.py).
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pyarrow as pa

from triptych.config.data import DataConfig
from triptych.documents import DocumentReader, kind_of
from triptych.documents.isolation import printable
from triptych.errors import DataError
from triptych.lm.data.document import Document, Reading
from triptych.lm.data.readers.decoding import BLOCK_BYTES, is_binary
from triptych.lm.data.readers.folders import files_below, reason_for_folder
from triptych.lm.data.readers.records import RECORD_READERS, is_json_of_records, read_jsonl
from triptych.lm.data.readers.texts import read_text

TEXT_TYPES = (".txt", ".text", ".md", ".markdown", ".rst")
COMPRESSIONS = (".gz", ".zst")
_SNIFF_BYTES = 8192


def read_files(path: Path, config: DataConfig, reading: Reading) -> Iterator[Document]:
    """Yield the documents of a file, or of every file below a folder, in name order.

    Below a folder, hidden files, files that cannot be read, and corpora and runs of ours are
    dropped and counted.

    Raises: DataError when a file named by itself cannot be read, or its text column is missing, or
        when a folder named by itself is a corpus.
    """
    is_alone = path.is_file()
    with _source_errors(printable(path.name)):
        if is_alone:
            names = {path: printable(path.name)}
        else:
            _refuse_own_output(path)
            names = dict(files_below(path, reading, follow_links=config.follow_links))
        sizes_bytes = {file: file.stat().st_size for file in names}
    reading.total_bytes += sum(sizes_bytes.values())
    with DocumentReader() as reader:
        for file, name in names.items():
            before, size_bytes = reading.read_bytes, sizes_bytes[file]
            try:
                with _source_errors(name), file.open("rb") as raw:
                    for document in _read_file(file, raw, name, config, reading, reader, is_alone):
                        reading.read_bytes = before + min(raw.tell(), size_bytes)
                        yield document
            except DataError as error:
                if is_alone:
                    raise
                reading.drop(error.code, name, size_bytes)
                reading.advise(error.code, error.hint)
            reading.read_bytes = before + size_bytes


def _refuse_own_output(folder: Path) -> None:
    reason = reason_for_folder(folder)
    if reason:
        raise DataError(
            f"{folder.name} is a {reason} that triptych wrote, not text",
            hint=f"to read a corpus again, name its documents: {folder / 'documents'}",
        )


def _type(file: Path) -> str:
    """Return the suffix that says what is inside, past a compression."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_file(
    file: Path,
    raw: io.BufferedReader,
    name: str,
    config: DataConfig,
    reading: Reading,
    reader: DocumentReader,
    is_alone: bool,
) -> Iterator[Document]:
    stream = _decompressed(file, raw)
    start = stream.peek(_SNIFF_BYTES)[:_SNIFF_BYTES]
    kind = _type(file)
    is_plain = stream is raw
    if not start:
        reading.drop("empty", name)
    elif kind == ".json" and is_json_of_records(stream):
        yield from read_jsonl(stream, name, config, reading)
    elif records := RECORD_READERS.get(kind):
        yield from records(stream, name, config, reading)
    elif _is_more_than_text(file if is_plain else file.with_suffix(""), kind, start):
        if is_plain:
            yield from _read_document(file, name, config, reading, reader)
        else:
            reading.drop("compressed", name, file.stat().st_size)
            reading.advise("compressed", "unpack it first")
    elif is_binary(start):
        reading.drop("binary", name, file.stat().st_size)
    elif kind in TEXT_TYPES or is_alone or kind_of(file, start) == "text":
        yield from read_text(stream, name, config, reading)
    else:
        reading.drop("unknown_type", name, file.stat().st_size)


def _is_more_than_text(file: Path, kind: str, start: bytes) -> bool:
    """Return whether a file has markup, or text in a format of its own."""
    found = kind_of(file, start)
    if kind in TEXT_TYPES:
        return found not in ("text", "markdown")
    return found not in ("text", "unknown")


def _read_document(
    file: Path, name: str, config: DataConfig, reading: Reading, reader: DocumentReader
) -> Iterator[Document]:
    """Yield the text of a file, and count what of it was not read."""
    document = reader.read(file, name)
    for item in document.unread:
        where = name if item.where in (name, file.name) else f"{name}: {item.where}"
        # A file that is read in part is not dropped; its missing pages are counted apart.
        code = f"part_{item.code}" if document.is_read else item.code
        reading.drop(code, where, 0 if document.is_read else document.size_bytes)
        reading.advise(code, item.reason)
    if document.is_read:
        yield Document(document.text, name, config.licence, name)


def _decompressed(file: Path, raw: io.BufferedReader) -> io.BufferedReader:
    """Look through a compression; several frames in one file are read as one."""
    suffix = file.suffix.lower()
    inner: object
    if suffix == ".gz":
        inner = gzip.GzipFile(fileobj=raw)
    elif suffix == ".zst":
        # Unlike the zstandard package's reader, Arrow's notices a file that was cut short.
        inner = pa.CompressedInputStream(raw, "zstd")
    else:
        return raw
    return io.BufferedReader(cast(io.RawIOBase, inner), buffer_size=BLOCK_BYTES)


@contextmanager
def _source_errors(name: str) -> Iterator[None]:
    """Name the file in whatever goes wrong while reading it."""
    try:
        yield
    except PermissionError as error:
        raise DataError(
            f"no permission to read {name}",
            hint="change its permissions, or leave it out",
            code="no_permission",
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowInvalid) as error:
        raise DataError(
            f"{name} is damaged: {error}", hint="copy it again, or leave it out", code="damaged"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not valid {error.encoding}: {error.reason} at byte {error.start}",
            hint="convert it to UTF-8, for example with iconv",
            code="invalid_encoding",
        ) from error
    except OSError as error:
        # Arrow tells of damage without an error number.
        what = "cannot be read" if error.errno else "is damaged"
        raise DataError(
            f"{name} {what}: {error.strerror or error}",
            hint="copy it again, or leave it out",
            code="damaged",
        ) from error
