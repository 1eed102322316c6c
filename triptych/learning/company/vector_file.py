"""The vectors of a company's passages: one file of float32 rows beside the store.

Each row is a unit vector and, as its last entry, the passage's row id (an integer's bits). Readers
map the file, so that an idle company holds no memory; a new version replaces it by one rename. Left
out: what computes the vectors (`vectors`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Set
from pathlib import Path

import numpy as np

from triptych.durable import storage_errors

_PATTERN = "vectors-*.npy"


def place(folder: Path, fingerprint: str) -> Path:
    """Return the file for the vectors of one encoder."""
    return folder / f"vectors-{fingerprint}.npy"


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return row ids and vectors; both empty where there is no file, or a torn one.

    Shape: (P,) int32 and (P, C) float32, mapped from the file.
    """
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return np.empty(0, np.int32), np.empty((0, 0), np.float32)
    return np.ascontiguousarray(table[:, -1]).view(np.int32), table[:, :-1]


def write(path: Path, ids: np.ndarray, vectors: np.ndarray) -> None:
    """Replace the file, its rows in the order of the ids, and remove those of other encoders.

    Shape: (P,) and (P, C).
    Raises: StorageError.
    """
    last = np.ascontiguousarray(ids.astype(np.int32)).view(np.float32)[:, None]
    table = np.hstack([vectors.astype(np.float32), last])[np.argsort(ids)]
    with storage_errors(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".vectors-")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, table, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    for other in path.parent.glob(_PATTERN):
        if other != path:
            other.unlink(missing_ok=True)


def prune(folder: Path, living: Set[int]) -> None:
    """Take the vectors of passages that are gone out of every file."""
    for path in folder.glob(_PATTERN):
        ids, vectors = read(path)
        kept = np.isin(ids, np.fromiter(living, np.int32, len(living)))
        if not kept.all():
            write(path, ids[kept], np.asarray(vectors)[kept])


def drop(folder: Path) -> None:
    """Remove every file of vectors."""
    for path in folder.glob(_PATTERN):
        path.unlink(missing_ok=True)
