"""Read records: jsonl, json arrays, csv, tsv and parquet files, one document a record.

The text is in one column, `data.text_column`; a column `licence` or `license` is honoured.
A record that is broken is dropped and counted; a file without the column, or of conversations, is
an error that says what to do. Left out: encodings (decoding.py) and advice (columns.py).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from triptych.config.data import DataConfig
from triptych.documents.isolation import printable
from triptych.errors import DataError
from triptych.lm.data.document import Document, Reading, is_unicode
from triptych.lm.data.readers.columns import missing_column, records_error
from triptych.lm.data.readers.decoding import decoded, encoding_of, lines
from triptych.lm.data.readers.json_values import NotJson, is_array_or_printed, values

# One record is held in memory; a longer one is damage, or no text.
MAX_RECORD_BYTES = 32_000_000
_BATCH_ROWS = 256
# Records read before a file without the column is given up: the first may be about the others.
_FIRST_RECORDS = 64
_SNIFF_BYTES = 65_536
_DELIMITERS = (",", ";", "\t", "|")
_LICENCE_COLUMNS = ("licence", "license")

Reader = Callable[[io.BufferedReader, str, DataConfig, Reading], Iterator[Document]]


def documents(
    records: Iterable[dict[str, Any]], name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Turn records into documents.

    Raises: DataError when none of the first records has the text column.
    """
    column = config.text_column
    records = iter(records)
    first = list(islice(records, _FIRST_RECORDS))
    if first and not any(column in record for record in first):
        raise records_error(name, first, config)
    for number, record in enumerate(chain(first, records)):
        source = f"{name}#{number}"
        text = record.get(column)
        if text is None:
            reading.drop("missing_text", source)
        elif not isinstance(text, str):
            reading.drop("not_text", source)
        elif not is_unicode(text):
            reading.drop("invalid_utf8", source, len(text))
        else:
            licence = next((record[key] for key in _LICENCE_COLUMNS if record.get(key)), None)
            yield Document(text, source, printable(str(licence or config.licence)), source)


def read_jsonl(
    stream: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield a document for each object: one a line, in one array, or printed over several lines."""
    if is_array_or_printed(_start(stream)):
        yield from documents(_values(stream, name, reading), name, config, reading)
    else:
        yield from documents(_objects_by_line(stream, name, reading), name, config, reading)


def is_json_of_records(stream: io.BufferedReader) -> bool:
    """Return whether a json file is an array of objects."""
    start = _start(stream).lstrip()
    return start.startswith("[") and is_array_or_printed(start)


def _start(stream: io.BufferedReader) -> str:
    start = stream.peek(_SNIFF_BYTES)[:_SNIFF_BYTES]
    return start.decode(encoding_of(start), "ignore")


def _values(stream: io.BufferedReader, name: str, reading: Reading) -> Iterator[dict[str, Any]]:
    try:
        for number, value in enumerate(values(decoded(stream), MAX_RECORD_BYTES)):
            if isinstance(value, dict):
                yield value
            else:
                reading.drop("invalid_json", f"{name}#{number}")
    except NotJson as error:
        reading.drop("invalid_json", f"{name}#rest", error.size)


def _objects_by_line(
    stream: io.BufferedReader, name: str, reading: Reading
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines(stream, MAX_RECORD_BYTES)):
        if not line.strip():
            continue
        if len(line) > MAX_RECORD_BYTES:
            reading.drop("too_long", f"{name}#{number}", len(line))
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield record
        else:
            reading.drop("invalid_json", f"{name}#{number}", len(line))


def read_csv(
    stream: io.BufferedReader, name: str, config: DataConfig, reading: Reading
) -> Iterator[Document]:
    """Yield a document for each row below a header line.

    The delimiter is the one of the header; tabs have no quoting rule.
    """
    header, delimiter = _header(stream, config.text_column, is_tsv=".tsv" in name.lower())
    by_tabs = delimiter == "\t"

    def rows() -> Iterator[str]:
        for number, line in enumerate(lines(stream, MAX_RECORD_BYTES)):
            if number < header:
                continue
            if len(line) > MAX_RECORD_BYTES:
                reading.drop("too_long", f"{name}#{number}", len(line))
            else:
                yield line + "\n"

    csv.field_size_limit(MAX_RECORD_BYTES)
    quoting: Any = csv.QUOTE_NONE if by_tabs else csv.QUOTE_MINIMAL
    reader = csv.DictReader(rows(), delimiter=delimiter, quoting=quoting)
    yield from documents(_table(reader, name, reading, by_tabs), name, config, reading)


def _table(
    reader: csv.DictReader[str], name: str, reading: Reading, by_tabs: bool
) -> Iterator[dict[str, Any]]:
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            reading.drop("invalid_csv", f"{name}#{reader.line_num}")
            continue
        if row is None:
            return
        yield {key: _unquoted(value) for key, value in row.items()} if by_tabs else row


def _unquoted(value: Any) -> Any:
    """Return a cell as it was before a spreadsheet quoted it: only then are its quotes doubled."""
    if isinstance(value, str) and len(value) > 3 and value[0] == value[-1] == '"':
        inner = value[1:-1]
        if '""' in inner and '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return value


def _header(stream: io.BufferedReader, column: str, *, is_tsv: bool) -> tuple[int, str]:
    """Return the number of the header's line and its delimiter.

    A spreadsheet's first line `sep=;` names the delimiter.
    """
    first = [line.strip("\ufeff") for line in _start(stream).splitlines()[:2]]
    if first and first[0].lower().startswith("sep=") and len(first[0]) == 5:
        return 1, first[0][4]
    header = first[0] if first else ""
    for delimiter in _DELIMITERS:
        if column in [cell.strip('" ') for cell in header.split(delimiter)] and delimiter in header:
            return 0, delimiter
    best = max(_DELIMITERS, key=header.count)
    return 0, "\t" if is_tsv and best not in header else best


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
                code="not_text",
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
