"""Read documents from files and folders: txt, md, jsonl, csv, parquet; also gz and zst.

Every reader streams: no more than one part of a document, or one record, is in memory. A
file that cannot be read at all stops the build with its name; a record or part that is
broken is dropped and counted. Left out: what is inside a record (records.py).
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pyarrow as pa

from triptych.config.data import DataConfig
from triptych.errors import DataError
from triptych.lm.data.document import Document, Reading, cut_text, is_unicode
from triptych.lm.data.readers.records import RECORD_READERS

TEXT_TYPES = (".txt", ".text", ".md", ".markdown", ".rst")
COMPRESSIONS = (".gz", ".zst")
_BLOCK_BYTES = 1 << 20
_SNIFF_BYTES = 8192
_SEPARATORS = {"file": None, "line": "\n", "paragraph": "\n\n"}


def read_files(path: Path, config: DataConfig, reading: Reading) -> Iterator[Document]:
    """Yield the documents of a file, or of every readable file below a folder, in name order.

    A file named by itself is read as text whatever its name; below a folder, hidden files
    and files of other types are skipped and counted.

    Raises: DataError when a file cannot be read, or its text column is missing.
    """
    with _source_errors(path.name):
        names = {path: path.name} if path.is_file() else dict(_below(path, reading))
        sizes_bytes = {file: file.stat().st_size for file in names}
    reading.total_bytes += sum(sizes_bytes.values())
    for file, name in names.items():
        before, size_bytes = reading.read_bytes, sizes_bytes[file]
        with _source_errors(name), file.open("rb") as raw:
            for document in _read_file(file, raw, name, config, reading):
                reading.read_bytes = before + min(raw.tell(), size_bytes)
                yield document
        reading.read_bytes = before + size_bytes


def _below(folder: Path, reading: Reading) -> Iterator[tuple[Path, str]]:
    root = folder.resolve().name
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        if not file.is_file() or any(part.startswith(".") for part in relative.parts):
            continue
        name = f"{root}/{relative.as_posix()}"
        if _type(file) in TEXT_TYPES or _type(file) in RECORD_READERS:
            yield file, name
        else:
            reading.drop("unknown_type", name, file.stat().st_size)


def _type(file: Path) -> str:
    """Return the suffix that says what is inside, past a compression."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_file(
    file: Path, raw: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    stream = _decompressed(file, raw)
    start = stream.peek(_SNIFF_BYTES)[:_SNIFF_BYTES]
    if not start:
        reading.drop("empty", name)
    elif reader := RECORD_READERS.get(_type(file)):
        yield from reader(stream, name, config, reading)
    elif b"\x00" in start and not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        reading.drop("binary", name, file.stat().st_size)
    else:
        yield from _read_text(stream, name, config, reading)


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
    return io.BufferedReader(cast(io.RawIOBase, inner), buffer_size=_BLOCK_BYTES)


def _read_text(
    stream: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield the documents of a text file; a part with broken UTF-8 is dropped."""
    units = _units(_decoded(stream), _SEPARATORS[config.text_documents], config.max_document_chars)
    for number, (document, is_whole, text) in enumerate(units):
        if not text.strip():
            continue
        group = name if config.text_documents == "file" else f"{name}#{document}"
        source = group if is_whole else f"{name}#part{number}"
        if is_unicode(text):
            yield Document(text, source, config.licence, group)
        else:
            reading.drop("invalid_utf8", source, len(text))


def _units(
    blocks: Iterator[str], separator: str | None, max_chars: int
) -> Iterator[tuple[int, bool, str]]:
    """Yield (document number, whether it is whole, text), cutting what is too long."""
    number, is_whole, pending = 0, True, ""
    for block in blocks:
        pending += block
        if separator is not None:
            *complete, pending = pending.split(separator)
            for text in complete:
                yield number, is_whole, text
                number, is_whole = number + 1, True
        while len(pending) > max_chars:
            cut = cut_text(pending, max_chars)
            yield number, False, pending[:cut]
            is_whole, pending = False, pending[cut:]
    yield number, is_whole, pending


def _decoded(stream: io.BufferedReader) -> Iterator[str]:
    """Decode UTF-8 (or UTF-16 with its mark), keeping broken bytes as lone surrogates."""
    start = stream.peek(3)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        plain = codecs.getincrementaldecoder("utf-16")("strict")
    else:
        plain = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    decoder = io.IncrementalNewlineDecoder(plain, translate=True)
    while block := stream.read(_BLOCK_BYTES):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


@contextmanager
def _source_errors(name: str) -> Iterator[None]:
    """Name the file in whatever goes wrong while reading it."""
    try:
        yield
    except PermissionError as error:
        raise DataError(
            f"no permission to read {name}", hint="change its permissions, or leave it out"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowInvalid) as error:
        raise DataError(
            f"{name} is damaged: {error}", hint="copy it again, or leave it out"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not valid {error.encoding}: {error.reason} at byte {error.start}",
            hint="convert it to UTF-8, for example with iconv",
        ) from error
    except OSError as error:
        # Arrow tells of damage without an error number.
        what = "cannot be read" if error.errno else "is damaged"
        raise DataError(
            f"{name} {what}: {error.strerror or error}", hint="copy it again, or leave it out"
        ) from error
