"""Find a company's passages by meaning: the exact product of the question's vector with all rows.

Which embedder a company uses stands in its store. New passages get their vectors at the end of a
sync; until every current passage has one, questions are answered from words alone, and a few late
ones (corrections) are added by the question that finds them missing. Left out: files
(`vector_file`), models (`embedders`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triptych.durable import FolderLock
from triptych.errors import StorageError
from triptych.learning.company import vector_file
from triptych.learning.company.embedders import Embedder, is_here, load_embedder
from triptych.learning.company.store import Store
from triptych.learning.company.tables import Found

Progress = Callable[[int, int, str], None]
_STATE = "embedder"
_BATCH = 128
# Passages that a question may embed before it is answered: about 50 ms each.
_LATE = 8
_LOCK = "vectors.lock"


def embedder_name(store: Store) -> str:
    """Return the reference of the company's embedder; empty where it uses words alone."""
    row = store.connection().execute("select value from state where name = ?", (_STATE,))
    found = row.fetchone()
    return str(found[0]) if found else ""


def is_chosen(store: Store) -> bool:
    """Return whether it was ever chosen how this company's passages are found."""
    row = store.connection().execute("select 1 from state where name = ?", (_STATE,))
    return row.fetchone() is not None


def set_embedder(store: Store, reference: str) -> None:
    """Choose the company's embedder; empty for words alone. Vectors come with `Vectors.update`."""
    if reference:
        load_embedder(reference)  # a mistake is an error now, not at the first question
    else:
        vector_file.drop(store.folder)
    with store.transaction() as database:
        database.execute("insert or replace into state values (?, ?)", (_STATE, reference))


def vectors_of(store: Store) -> Vectors | None:
    """Return the company's vectors; None where it uses words alone, or its model is not here."""
    name = embedder_name(store)
    return Vectors(store, load_embedder(name)) if name and is_here(name) else None


@dataclass(frozen=True)
class Nearest:
    """The cosine of every passage, and the nearest ones that may be read, best first.

    Shape: ids (P,) int32, ascending, and scores (P,).
    """

    ids: np.ndarray
    scores: np.ndarray
    found: list[Found]

    def cosine(self, row: int) -> float:
        """Return the cosine of a passage by its row id; 0 for one without a vector."""
        at = int(np.searchsorted(self.ids, row))
        return float(self.scores[at]) if at < len(self.ids) and self.ids[at] == row else 0.0


class Vectors:
    """The vectors of one company under one embedder."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        self.store = store
        self.embedder = embedder
        self.path = vector_file.place(store.folder, embedder.fingerprint)
        self._complete_at = -1

    def update(self, progress: Progress | None = None, *, most: int | None = None) -> bool:
        """Embed the passages that have no vector, and drop rows of passages that are gone.

        `most` bounds how many are embedded. Returns: whether every current passage has one now.
        """
        version = self.store.version
        if not self._is_complete():
            with FolderLock(self.store.folder / _LOCK):
                ids, vectors = vector_file.read(self.path)
                wanted = self._passages()
                missing = np.setdiff1d(wanted, ids)
                if most is not None and len(missing) > most:
                    return False
                kept = np.isin(ids, wanted)
                new = self._encode([int(one) for one in missing], progress)
                parts = [part for part in (np.asarray(vectors)[kept], new) if part.size]
                table = np.vstack(parts) if parts else np.empty((0, 1), np.float32)
                vector_file.write(self.path, np.concatenate([ids[kept], missing]), table)
        self._complete_at = version
        return True

    def _passages(self) -> np.ndarray:
        """Return the row ids of the current passages. Shape: (P,) int32, ascending."""
        rows = self.store.connection().execute("select id from passages order by id")
        return np.fromiter((row[0] for row in rows), np.int32)

    def _is_complete(self) -> bool:
        return np.array_equal(vector_file.read(self.path)[0], self._passages())

    def _encode(self, ids: list[int], progress: Progress | None) -> np.ndarray:
        """Return the vectors of passages. Shape: (len(ids), C)."""
        found = []
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            rows = self.store.connection().execute(
                "select rowid, title, headings, body from words where rowid in "
                "(select value from json_each(?))",
                (json.dumps(batch),),
            )
            texts = {row[0]: ". ".join(part for part in row[1:] if part) for row in rows}
            found.append(self.embedder.encode([texts.get(one, "") for one in batch]))
            if progress is not None:
                progress(min(start + _BATCH, len(ids)), len(ids), "vectors")
        return np.vstack(found) if found else np.empty((0, 0), np.float32)

    def nearest(
        self, question: str, groups: frozenset[str] | None, limit: int, *, url: str = ""
    ) -> Nearest | None:
        """Return what lies nearest to a question; None while some passages have no vector."""
        try:
            if self._complete_at != self.store.version and not self.update(most=_LATE):
                return None
        except StorageError as error:
            if error.code != "in_use":  # a sync, or another question, is writing them
                raise
            return None
        ids, vectors = vector_file.read(self.path)
        if not len(ids):
            return None
        scores = vectors @ self.embedder.encode([question])[0]
        found: list[Found] = []
        take = limit
        while True:
            # Rights are checked in the store: where many of the nearest may not be read, more are
            # looked at.
            take = min(take, len(ids))
            best = np.argpartition(-scores, take - 1)[:take]
            found = self.store.passages_at([int(ids[one]) for one in best], groups, url=url)
            if len(found) >= limit or take == len(ids):
                break
            take *= 4
        nearest = Nearest(ids, scores, found)
        found.sort(key=lambda one: (-nearest.cosine(one.row), one.row))
        del found[limit:]
        return nearest
