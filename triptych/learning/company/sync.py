"""Bring a folder's files into a company's store: compared first, then applied as one version.

Comparing reads bytes only. Applying parses what is new or changed, one child process a file, and
keeps each result until all are there; then the store changes in one transaction. A sync that was
killed is taken up where it stopped, and until its end the old version answers. Left out: what is
in the store (store.py).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.documents import Document, DocumentReader, FolderReading, Limits
from triptych.documents.folders import files_below
from triptych.durable import FolderLock, sha256_file, write_atomic
from triptych.errors import LearningError
from triptych.learning.company.answer import own_threshold
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store

FORMAT = 1
STAGING = "staging"
LOCK = "sync.lock"
# Called with the number of files done, the number of all, and the file's name.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Diff:
    """What a sync would change, as names of files in order."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    unchanged: int
    passed_over: dict[str, int]

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to apply."""
        return not (self.new or self.changed or self.gone)

    def as_json(self) -> dict[str, Any]:
        """Return the diff as plain values."""
        return {
            "new": list(self.new), "changed": list(self.changed), "gone": list(self.gone),
            "unchanged": self.unchanged, "passed_over": self.passed_over,
        }  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{len(self.new)} new, {len(self.changed)} changed, {len(self.gone)} gone, "
            f"{self.unchanged} unchanged"
        )


@dataclass(frozen=True)
class Synced:
    """What a sync did: the applied diff, the version it made, and every file not read whole."""

    diff: Diff
    version: int
    unread: dict[str, tuple[dict[str, str], ...]]


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    sha256: str


def compare(store: Store, source: str, folder: Path) -> Diff:
    """Return what a sync of this folder would change; nothing is changed.

    Raises: LearningError where the folder is not there.
    """
    return _compare(store, source, folder)[0]


def sync(
    store: Store, source: str, folder: Path, *, progress: Progress | None = None,
    limits: Limits | None = None,
) -> Synced:  # fmt: skip
    """Apply what has changed in a folder, all at once; a second run changes nothing.

    Raises: LearningError where the folder is not there, StorageError while another sync runs.
    """
    with FolderLock(store.folder / LOCK):
        store.finish_purge()
        diff, files = _compare(store, source, folder)
        version = store.version
        if not diff.is_empty:
            wanted = {*diff.new, *diff.changed}
            changed = [one for one in files if one.name in wanted]
            staged = _stage(store.folder / STAGING, changed, progress, limits)
            version = store.apply(source, _documents(staged), diff.gone)
            shutil.rmtree(store.folder / STAGING, ignore_errors=True)
            store.drop_old_versions(version + 1)
            retriever = Retriever(store)
            if retriever.vectors is not None:
                retriever.vectors.update(progress)
            store.set_threshold(own_threshold(retriever))
    unread = {one.name: one.unread for one in store.documents(source) if one.unread}
    return Synced(diff, version, unread)


def _compare(store: Store, source: str, folder: Path) -> tuple[Diff, list[_File]]:
    if not Path(folder).is_dir():
        raise LearningError(
            f"{folder} is not a folder", hint="a source is a folder that holds the documents"
        )
    reading = FolderReading()
    files = [_File(path, name, _digest(path)) for path, name in files_below(Path(folder), reading)]
    known = {one.name: one.sha256 for one in store.documents(source)}
    found = {one.name for one in files}
    new = tuple(one.name for one in files if one.name not in known)
    changed = tuple(
        one.name for one in files if one.name in known and known[one.name] != one.sha256
    )
    gone = tuple(sorted(known.keys() - found))
    unchanged = len(files) - len(new) - len(changed)
    return Diff(new, changed, gone, unchanged, dict(reading.passed_over)), files


def _digest(path: Path) -> str:
    # As `documents.parse`: a file above the limit has no digest, so that it is not read whole.
    return "" if path.stat().st_size > Limits().file_bytes else sha256_file(path)


def _stage(
    folder: Path, files: list[_File], progress: Progress | None, limits: Limits | None
) -> list[Path]:
    """Parse each file, unless an earlier sync has; return where the results lie."""
    folder.mkdir(mode=0o700, exist_ok=True)
    staged = []
    with DocumentReader(limits) as reader:
        for number, one in enumerate(files, start=1):
            key = hashlib.sha256(f"{FORMAT}\n{one.name}\n{one.sha256}".encode()).hexdigest()
            path = folder / f"{key}.json"
            if not path.exists():
                document = reader.read(one.path, one.name)
                write_atomic(path, json.dumps(document.as_json()), private=True)
            staged.append(path)
            if progress is not None:
                progress(number, len(files), one.name)
    return staged


def _documents(staged: list[Path]) -> Iterator[Document]:
    for path in staged:
        yield Document.from_json(json.loads(path.read_text("utf-8")))
