"""What is read from a company's store with the rights of the reader.

`groups` are those of the reader; None reads everything (an administrator). A source or document
without groups is read by no other user. Left out: changes (`store`).
"""

from __future__ import annotations

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from triptych.learning.company.tables import PASSAGE, READABLE, WEIGHTS, Found
from triptych.wire.evidence import Passage, SourceText

# Made of the constants of `tables`; every value is a parameter.
_READ = " ".join((
    "select d.name, d.version, d.title, d.text from documents d join sources s",
    "on s.name = d.source where d.id = ? and d.replaced is null and", READABLE,
))  # fmt: skip
# Ranked and limited before any text is cut: many passages match, few are wanted.
_SEARCH = " ".join((
    "select", PASSAGE, ", found.score from (select p.id as id, -bm25(words, ?, ?, ?) as score",
    "from words join passages p on p.id = words.rowid",
    "join documents d on d.id = p.document join sources s on s.name = d.source",
    "where words match ? and", READABLE, "order by score desc, p.id limit ?) found",
    "join passages p on p.id = found.id join documents d on d.id = p.document",
    "order by found.score desc, p.id",
))  # fmt: skip
_AT = " ".join((
    "select", PASSAGE, "from passages p join documents d on d.id = p.document",
    "join sources s on s.name = d.source",
    "where p.id in (select value from json_each(?)) and", READABLE,
))  # fmt: skip


class StoreSearch(ABC):
    """Find passages, and read documents, that some groups may read."""

    @abstractmethod
    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""

    def readable(self, document: int, groups: frozenset[str] | None) -> SourceText | None:
        """Return a current document's text if these groups may read it."""
        rows = self.connection().execute(_READ, (document, *_rights(groups)))
        row = rows.fetchone()
        return row and SourceText(str(document), row[0], str(row[1]), row[2], row[3])

    def search(
        self, match: str, limit: int, groups: frozenset[str] | None, *, url: str = ""
    ) -> list[Found]:
        """Return passages that match an FTS5 query and that the groups may read, best first.

        `groups` None reads everything (an administrator); a source or document without groups is
        read by no other user.
        """
        rows = self.connection().execute(_SEARCH, (*WEIGHTS, match, *_rights(groups), limit))
        return [Found(self._passage(row, url), float(row[10]), row[0]) for row in rows]

    def passages_at(
        self, ids: Sequence[int], groups: frozenset[str] | None, *, url: str = ""
    ) -> list[Found]:
        """Return those of some passages, by row id, that the groups may read."""
        rows = self.connection().execute(_AT, (json.dumps(ids), *_rights(groups)))
        return [Found(self._passage(row, url), 0.0, row[0]) for row in rows]

    def _passage(self, row: tuple[Any, ...], url: str) -> Passage:
        identity = f"{row[1]}-{row[7]}-{row[8]}"
        return Passage(
            id=identity,
            document=row[2],
            version=str(row[3]),
            title=row[4],
            headings=tuple(json.loads(row[5])),
            page=row[6],
            start=row[7],
            end=row[8],
            text=row[9],
            url=url.format(document=row[1], start=row[7], end=row[8]) if url else "",
        )

    def passages_with(self, match: str) -> int:
        """Return how many passages match an FTS5 query."""
        row = self.connection().execute("select count(*) from words where words match ?", (match,))
        return int(row.fetchone()[0])


def quoted(word: str) -> str:
    """Return a word as an FTS5 string, in which no character has a meaning."""
    return '"' + word.replace('"', '""') + '"'


def _rights(groups: frozenset[str] | None) -> tuple[bool, str]:
    """Return the parameters of `READABLE`."""
    return groups is None, json.dumps(sorted(groups or ()))
