"""Turn what a person names (a file, a folder, a hub dataset, `python-docs`) into documents.

Left out: how each kind is read (files.py, hub_datasets.py, python_docs.py).
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Iterator
from pathlib import Path

from triptych.config.data import DataConfig
from triptych.errors import DataError
from triptych.lm.data.document import Document, Reading
from triptych.lm.data.readers.files import read_files
from triptych.lm.data.readers.hub_datasets import parse_reference, read_hub_dataset
from triptych.lm.data.readers.python_docs import PARTS, read_python_docs

PYTHON_DOCS = "python-docs"


def read_source(source: str, config: DataConfig, reading: Reading) -> Iterator[Document]:
    """Yield the documents of one source, in an order that is always the same.

    A path that exists is a file or folder; else `owner/name` is a hub dataset.

    Raises: DataError when the source does not exist or cannot be read.
    """
    name, _, part = source.partition(":")
    path = Path(source).expanduser()
    try:
        exists = path.exists()
    except PermissionError as error:
        raise DataError(
            f"no permission to read {source}", hint="change its permissions, or leave it out"
        ) from error
    if exists:
        return read_files(path, config, reading)
    if name == PYTHON_DOCS:
        if part and part not in PARTS:
            raise DataError(
                f"python-docs has no part {part!r}",
                hint="write python-docs, python-docs:english or python-docs:code",
            )
        return read_python_docs(part, reading)
    reference = parse_reference(source)
    if reference is not None and not path.parent.is_dir():
        return read_hub_dataset(reference, config, reading)
    raise DataError(f"no file or folder {source}", hint=_nearest(path))


def display_name(source: str) -> str:
    """Name a source in a manifest: a path by its last part, so that no home folder is named."""
    path = Path(source).expanduser()
    if path.exists():
        return path.resolve().name
    if source.partition(":")[0] == PYTHON_DOCS:
        return f"{source} of Python {platform.python_version()}"
    return source


def _nearest(path: Path) -> str:
    """Suggest an existing name beside a missing one."""
    if path.parent.is_dir():
        siblings = [entry.name for entry in path.parent.iterdir()]
        nearest = difflib.get_close_matches(path.name, siblings, n=1)
        if nearest:
            return f"did you mean {path.parent / nearest[0]}?"
    return "give a path that exists, a hub dataset as owner/name, or python-docs"
