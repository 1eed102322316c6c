"""The cleaned documents on disk while a corpus is built, so that memory stays bounded.

Documents wait here between the pass that reads the sources and the pass that writes the
corpus; only a few numbers for each stay in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from triptych.lm.data.document import Document
from triptych.lm.data.hashing import name_hash

SCHEMA = pa.schema([(name, pa.string()) for name in ("text", "source", "licence", "group")])
_FLUSH_BYTES = 8_000_000


class Spool:
    """Append documents, then read them back in the same order, in bounded batches.

    A group is remembered by its hash: a million names would take more memory than the rest.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.sizes_bytes = array("q")
        self.groups = array("Q")
        self._pending: list[Document] = []
        self._pending_bytes = 0
        self._writer = pq.ParquetWriter(file, SCHEMA, compression="zstd", compression_level=1)

    def __len__(self) -> int:
        return len(self.sizes_bytes)

    def append(self, document: Document) -> None:
        """Add one document."""
        size_bytes = len(document.text.encode())
        self.sizes_bytes.append(size_bytes)
        self.groups.append(name_hash(document.group.encode()))
        self._pending.append(document)
        self._pending_bytes += size_bytes
        if self._pending_bytes >= _FLUSH_BYTES:
            self._flush()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file for writing; only then can it be read."""
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close()

    def read(self) -> Iterator[list[Document]]:
        """Yield batches of a few megabytes of text."""
        with pq.ParquetFile(self.file) as file:
            for number in range(file.num_row_groups):
                columns = file.read_row_group(number, use_threads=False).to_pydict()
                yield [Document(*row) for row in zip(*columns.values(), strict=True)]

    def _flush(self) -> None:
        if self._pending:
            columns = [
                pa.array([getattr(document, name) for document in self._pending], pa.string())
                for name in SCHEMA.names
            ]
            self._writer.write_table(pa.table(columns, schema=SCHEMA))
        self._pending = []
        self._pending_bytes = 0
