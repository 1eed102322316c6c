"""Turn what a person names (a file, a folder, a hub dataset, `python-docs`) into documents.

Left out: how each kind is read (files.py, hub_datasets.py, python_docs.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from triptych.config.data import DataConfig
from triptych.errors import DataError
from triptych.lm.data.document import Document, Drops
from triptych.lm.data.files import read_files
from triptych.lm.data.python_docs import read_python_docs

PYTHON_DOCS = "python-docs"


def read_source(source: str, config: DataConfig, drops: Drops) -> Iterator[Document]:
    """Yield the documents of one source, in an order that is always the same.

    Raises: DataError when the source does not exist or cannot be read.
    """
    name, _, part = source.partition(":")
    if name == PYTHON_DOCS:
        if part not in ("", "english", "code"):
            raise DataError(
                f"python-docs has no part {part!r}",
                hint="write python-docs, python-docs:english or python-docs:code",
            )
        yield from read_python_docs(part, drops)
        return
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"no file or folder {source}",
            hint="give a path that exists, or python-docs",
        )
    yield from read_files(path, config, drops)
