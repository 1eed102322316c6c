"""The documents of a corpus as parquet, one file a split: text, source, licence, split."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from triptych.lm.data.document import Document
from triptych.lm.data.splits import SPLITS

_SCHEMA = pa.schema([(name, pa.string()) for name in ("text", "source", "licence", "split")])
_PART = re.compile(r"#part\d+$")
_ROW_GROUP_CHARS = 4_000_000


class DocumentWriter:
    """Write the documents of every split, a few megabytes of text at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.chars = Counter[str]()
        self.licences = Counter[str]()
        self._pending: dict[str, list[Document]] = {split: [] for split in SPLITS}
        self._pending_chars = Counter[str]()
        self._writers = {
            split: pq.ParquetWriter(_file(folder, split), _SCHEMA, compression="zstd")
            for split in SPLITS
        }

    def append(self, split: str, document: Document) -> None:
        """Add one document to a split."""
        self.chars[split] += len(document.text)
        self.licences[document.licence] += 1
        self._pending[split].append(document)
        self._pending_chars[split] += len(document.text)
        if self._pending_chars[split] >= _ROW_GROUP_CHARS:
            self._flush(split)

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for split in SPLITS:
                    self._flush(split)
        finally:
            for writer in self._writers.values():
                writer.close()

    def _flush(self, split: str) -> None:
        documents = self._pending[split]
        if documents:
            columns = [
                [document.text for document in documents],
                [document.source for document in documents],
                [document.licence for document in documents],
                [split] * len(documents),
            ]
            arrays = [pa.array(column, pa.string()) for column in columns]
            self._writers[split].write_table(pa.table(arrays, schema=_SCHEMA))
        self._pending[split] = []
        self._pending_chars[split] = 0


def text_hashes(folder: Path) -> dict[str, str]:
    """Hash the words of each source document, its parts together, whatever split they are in."""
    parts: dict[str, set[bytes]] = {}
    for split in SPLITS:
        with pq.ParquetFile(_file(folder, split)) as file:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number, ["text", "source"], use_threads=False)
                for text, source in zip(
                    *(rows[c].to_pylist() for c in rows.column_names), strict=True
                ):
                    name = _PART.sub("", source)
                    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                    parts.setdefault(name, set()).add(digest)
    return {
        name: hashlib.blake2b(b"".join(sorted(found)), digest_size=16).hexdigest()
        for name, found in parts.items()
    }


def read_texts(folder: Path, split: str) -> Iterator[list[str]]:
    """Yield the texts of a split in order, a few megabytes at a time."""
    with pq.ParquetFile(_file(folder, split)) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, ["text"], use_threads=False)["text"].to_pylist()


def read_samples(folder: Path, count: int) -> Iterator[tuple[str, str]]:
    """Yield source and text of training documents spread evenly over the corpus."""
    with pq.ParquetFile(_file(folder, SPLITS[0])) as file:
        rows = file.metadata.num_rows
        for index in range(min(count, rows)):
            row = index * rows // min(count, rows)
            number = 0
            while row >= file.metadata.row_group(number).num_rows:
                row -= file.metadata.row_group(number).num_rows
                number += 1
            table = file.read_row_group(number, ["source", "text"], use_threads=False)
            yield table["source"][row].as_py(), table["text"][row].as_py()


def keep_only(folder: Path, split: str, kept: Sequence[bool] | np.ndarray) -> pa.Table:
    """Rewrite a split with the marked documents, and return those that went.

    Shape: kept [documents] bool.
    """
    table = pq.read_table(_file(folder, split))
    mask = pa.array(np.asarray(kept, dtype=bool))
    pq.write_table(table.filter(mask), _file(folder, split), compression="zstd")
    return table.filter(pa.array(~np.asarray(kept, dtype=bool)))


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.parquet"
