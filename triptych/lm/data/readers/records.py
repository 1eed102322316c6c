"""Read records: jsonl, csv and parquet files, one document a record.

The text is in one column, `data.text_column`; a column `licence` or `license` is honoured.
A record that is broken is dropped and counted; a column that is missing altogether stops
the build with the columns there are.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from triptych.config.data import DataConfig
from triptych.errors import DataError
from triptych.lm.data.document import Document, Reading, is_unicode

# One record is held in memory; a longer one is damage, or no text.
MAX_RECORD_BYTES = 32_000_000
_BATCH_ROWS = 256
_LICENCE_COLUMNS = ("licence", "license")

Reader = Callable[[io.BufferedReader, str, DataConfig, Reading], Iterator[Document]]


def documents(
    records: Iterable[dict[str, Any]], name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Turn records into documents.

    Raises: DataError when the first record has no text column.
    """
    column = config.text_column
    for number, record in enumerate(records):
        source = f"{name}#{number}"
        if number == 0 and column not in record:
            raise missing_column(name, column, record)
        text = record.get(column)
        if text is None:
            reading.drop("missing_text", source)
        elif not isinstance(text, str):
            reading.drop("not_text", source)
        elif not is_unicode(text):
            reading.drop("invalid_utf8", source, len(text))
        else:
            licence = next((record[key] for key in _LICENCE_COLUMNS if record.get(key)), None)
            yield Document(text, source, str(licence or config.licence), source)


def missing_column(name: str, column: str, columns: Iterable[str]) -> DataError:
    """Name the columns there are, and the nearest to the one that is missing."""
    known = [str(known) for known in columns]
    nearest = difflib.get_close_matches(column, known, n=1)
    best = nearest[0] if nearest else (known[0] if known else "NAME")
    return DataError(
        f"{name} has no column {column!r}; its columns are {', '.join(known) or 'none'}",
        hint=f"name the one that holds the text: --set data.text_column={best}",
    )


def read_jsonl(
    stream: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield a document for each line of JSON."""

    def records() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(_bounded_lines(stream)):
            if not line.strip():
                continue
            if len(line) > MAX_RECORD_BYTES:
                reading.drop("too_long", f"{name}#{number}", len(line))
                continue
            try:
                record = json.loads(line.decode("utf-8-sig", "surrogateescape"))
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield record
            else:
                reading.drop("invalid_json", f"{name}#{number}", len(line))

    yield from documents(records(), name, config, reading)


def read_csv(
    stream: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield a document for each row below a header line."""
    delimiter = "\t" if ".tsv" in name.lower() else ","

    def lines() -> Iterator[str]:
        for number, line in enumerate(_bounded_lines(stream)):
            if len(line) > MAX_RECORD_BYTES:
                raise DataError(
                    f"line {number + 1} of {name} is longer than {MAX_RECORD_BYTES:,} bytes",
                    hint="is it really csv? a text file should end in .txt",
                )
            yield line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")

    csv.field_size_limit(MAX_RECORD_BYTES)
    try:
        yield from documents(csv.DictReader(lines(), delimiter=delimiter), name, config, reading)
    except csv.Error as error:
        raise DataError(f"{name} is not valid csv: {error}", hint="repair or leave it") from error


def read_parquet(
    stream: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield a document for each row, decoding a few rows at a time."""
    with pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20) as file:
        schema = file.schema_arrow
        if config.text_column not in schema.names:
            raise missing_column(name, config.text_column, schema.names)
        kind = schema.field(config.text_column).type
        if isinstance(kind, pa.DictionaryType):
            kind = kind.value_type
        if kind not in (pa.string(), pa.large_string(), pa.string_view()):
            raise DataError(
                f"column {config.text_column!r} of {name} holds {kind}, not text",
                hint=f"its columns are {', '.join(schema.names)}",
            )
        wanted = [config.text_column, *(c for c in _LICENCE_COLUMNS if c in schema.names)]

        def records() -> Iterator[dict[str, Any]]:
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
                yield from batch.to_pylist()

        yield from documents(records(), name, config, reading)


RECORD_READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}


def _bounded_lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """Yield lines; of one that is too long only so much that its length shows it."""
    while line := stream.readline(MAX_RECORD_BYTES + 1):
        yield line
        while len(line) > MAX_RECORD_BYTES and not line.endswith(b"\n"):
            line = stream.readline(MAX_RECORD_BYTES + 1)
