"""One company's documents and passages in a SQLite file with full-text search.

Every change is one transaction, so that readers see the old version until the new one is whole.
Row ids are never used again (AUTOINCREMENT), so that no deleted word is inherited. `forget` leaves
no byte of what it removes: FTS5 `optimize`, `secure_delete`, then a truncated write-ahead log.
Left out: who may ask (the caller passes the groups) and vectors (`vectors`).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from triptych.documents import Document
from triptych.durable import Closing
from triptych.errors import LearningError
from triptych.learning.company import vector_file
from triptych.learning.company.passages import Piece, divide
from triptych.learning.company.search import StoreSearch
from triptych.learning.company.tables import FILE, FORMAT, TABLES, Stored


class Store(StoreSearch, Closing):
    """Hold one company's knowledge. One connection per thread; safe to share by threads."""

    def __init__(self, folder: Path, company: str) -> None:
        self.folder = Path(folder)
        self.company = company
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.transaction() as database:
            found = dict(database.execute("select name, value from state"))
            if not found:
                rows = (("format", str(FORMAT)), ("company", company), ("version", "0"))
                database.executemany("insert into state values (?, ?)", rows)
            elif found.get("format") != str(FORMAT) or found.get("company") != company:
                raise LearningError(
                    f"{self.file} is of {found.get('company')!r}, format {found.get('format')}",
                    hint="move the folder away, then add the company again",
                )

    @property
    def file(self) -> Path:
        """Return the database file."""
        return self.folder / FILE

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.file, timeout=30, isolation_level=None, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma secure_delete = on")
            connection.execute("pragma foreign_keys = on")
            connection.execute("pragma synchronous = full")
            connection.executescript(TABLES)
            self._local.connection = connection
            with self._lock:
                self._open.append(connection)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write as one transaction: all of it, or none where the block raises."""
        connection = self.connection()
        connection.execute("begin immediate")
        try:
            yield connection
        except BaseException:
            connection.execute("rollback")
            raise
        connection.execute("commit")

    # -- what is there ---------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Return the number of the present version; it grows with every applied change."""
        row = self.connection().execute("select value from state where name = 'version'").fetchone()
        return int(row[0])

    def threshold(self) -> float:
        """Return the company's own threshold of refusal; 0 where none was set."""
        row = self.connection().execute("select value from state where name = 'threshold'")
        found = row.fetchone()
        return float(found[0]) if found else 0.0

    def set_threshold(self, value: float) -> None:
        """Set the confidence below which a question of this company is refused."""
        with self.transaction() as database:
            database.execute("insert or replace into state values ('threshold', ?)", (str(value),))

    def documents(self, source: str | None = None) -> list[Stored]:
        """Return the current documents in the order of source and name."""
        rows = self.connection().execute(
            "select id, source, name, title, sha256, unread, version, groups from documents "
            "where replaced is null and (?1 is null or source = ?1) order by source, name",
            (source,),
        )
        return [
            Stored(
                id=row[0],
                source=row[1],
                name=row[2],
                title=row[3],
                sha256=row[4],
                unread=tuple(json.loads(row[5])),
                version=row[6],
                groups=_groups(row[7]),
            )
            for row in rows
        ]

    def sources(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return each source's location and the groups that may read it."""
        rows = self.connection().execute("select name, location, groups from sources order by name")
        return {name: (location, tuple(json.loads(groups))) for name, location, groups in rows}

    def text(self, document: int) -> str | None:
        """Return a document's text in the version with this id; None where it is gone."""
        row = self.connection().execute("select text from documents where id = ?", (document,))
        found = row.fetchone()
        return None if found is None else str(found[0])

    def counts(self) -> tuple[int, int]:
        """Return how many documents and passages are current."""
        connection = self.connection()
        documents = connection.execute("select count(*) from documents where replaced is null")
        passages = connection.execute("select count(*) from passages")
        return int(documents.fetchone()[0]), int(passages.fetchone()[0])

    # -- changes ---------------------------------------------------------------------------------

    def set_source(self, name: str, location: str, groups: Sequence[str]) -> None:
        """Add a source, or change where it lies and which groups may read it.

        Rights act on the next question; nothing is indexed anew.
        """
        with self.transaction() as database:
            database.execute(
                "insert into sources values (?1, ?2, ?3) on conflict (name) "
                "do update set location = ?2, groups = ?3",
                (name, location, json.dumps(sorted(groups))),
            )

    def set_document_groups(self, source: str, name: str, groups: Sequence[str] | None) -> None:
        """Limit a document to groups of its own; None follows its source again."""
        value = None if groups is None else json.dumps(sorted(groups))
        with self.transaction() as database:
            database.execute(
                "update documents set groups = ? where source = ? and name = ? "
                "and replaced is null",
                (value, source, name),
            )

    def set_reader(self, user: str, groups: Sequence[str]) -> None:
        """Set which groups a member belongs to besides `everyone`."""
        with self.transaction() as database:
            database.execute("delete from readers where name = ?", (user,))
            if groups:
                values = (user, json.dumps(sorted(groups)))
                database.execute("insert into readers values (?, ?)", values)

    def groups_of(self, user: str | None) -> frozenset[str]:
        """Return the groups of a member of the company: `everyone`, and those that were set."""
        row = self.connection().execute("select groups from readers where name = ?", (user,))
        found = row.fetchone()
        return frozenset(("everyone", *(json.loads(found[0]) if found else ())))

    def apply(self, source: str, changed: Iterable[Document], gone: Iterable[str]) -> int:
        """Replace documents by new versions and take gone ones out, all at once.

        Returns: the number of the new version.
        """
        with self.transaction() as database:
            version = self.version + 1
            for name in gone:
                self._retire(database, source, name, version)
            for document in changed:
                groups = self._retire(database, source, document.name, version)
                self._insert(database, source, document, version, groups)
            database.execute("update state set value = ? where name = 'version'", (str(version),))
        return version

    def _retire(
        self, database: sqlite3.Connection, source: str, name: str, version: int
    ) -> str | None:
        """Take a document's passages out of the index; its text stays, to be restored."""
        row = database.execute(
            "select id, groups from documents where source = ? and name = ? and replaced is null",
            (source, name),
        ).fetchone()
        if row is None:
            return None
        self._unindex(database, row[0])
        database.execute("update documents set replaced = ? where id = ?", (version, row[0]))
        groups: str | None = row[1]
        return groups

    @staticmethod
    def _unindex(database: sqlite3.Connection, document: int) -> None:
        database.execute(
            "delete from words where rowid in (select id from passages where document = ?)",
            (document,),
        )
        database.execute("delete from passages where document = ?", (document,))

    def _insert(
        self,
        database: sqlite3.Connection,
        source: str,
        document: Document,
        version: int,
        groups: str | None,
    ) -> None:
        unread = [
            {"where": one.where, "code": one.code, "reason": one.reason} for one in document.unread
        ]
        cursor = database.execute(
            "insert into documents (source, name, title, kind, sha256, text, unread, version, "
            "groups) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (source, document.name, document.title, document.kind, document.sha256, document.text,
             json.dumps(unread), version, groups),
        )  # fmt: skip
        for piece in divide(document):
            self._insert_passage(database, int(cursor.lastrowid or 0), document.title, piece)

    @staticmethod
    def _insert_passage(
        database: sqlite3.Connection, document: int, title: str, piece: Piece
    ) -> None:
        cursor = database.execute(
            "insert into passages (document, headings, page, first, last) values (?, ?, ?, ?, ?)",
            (document, json.dumps(piece.headings), piece.page, piece.start, piece.end),
        )
        database.execute(
            "insert into words (rowid, title, headings, body) values (?, ?, ?, ?)",
            (cursor.lastrowid, title, " / ".join(piece.headings), piece.text),
        )

    def forget(self, source: str, name: str) -> int:
        """Remove every version of a document so that no byte of it is left in the file.

        Returns: how many versions there were.
        """
        with self.transaction() as database:
            ids = [
                row[0]
                for row in database.execute(
                    "select id from documents where source = ? and name = ?", (source, name)
                )
            ]
            for document in ids:
                self._unindex(database, document)
                database.execute("delete from documents where id = ?", (document,))
            if ids:
                version = self.version + 1
                database.execute(
                    "update state set value = ? where name = 'version'", (str(version),)
                )
                self._owe_purge(database)
        self.purge()
        return len(ids)

    def remove_source(self, source: str) -> int:
        """Remove a source and every document of it, as `forget` does.

        Returns: how many versions of documents there were.
        """
        with self.transaction() as database:
            rows = database.execute("select id from documents where source = ?", (source,))
            ids = [row[0] for row in rows]
            for document in ids:
                self._unindex(database, document)
            database.execute("delete from documents where source = ?", (source,))
            database.execute("delete from sources where name = ?", (source,))
            database.execute(
                "update state set value = ? where name = 'version'", (str(self.version + 1),)
            )
            self._owe_purge(database)
        self.purge()
        return len(ids)

    def drop_old_versions(self, before: int) -> None:
        """Remove documents that were replaced before a version; they can not be restored."""
        with self.transaction() as database:
            done = database.execute("delete from documents where replaced < ?", (before,))
            if done.rowcount:
                self._owe_purge(database)
        self.finish_purge()

    @staticmethod
    def _owe_purge(database: sqlite3.Connection) -> None:
        database.execute("insert or replace into state values ('purge', 'owed')")

    def finish_purge(self) -> None:
        """Do the purge of a removal whose process ended before it was done."""
        row = self.connection().execute("select 1 from state where name = 'purge'").fetchone()
        if row is not None:
            self.purge()

    def purge(self) -> None:
        """Overwrite what was deleted: index segments, free pages and the write-ahead log."""
        connection = self.connection()
        with self.transaction() as database:
            # Until segments are merged, FTS5 keeps deleted words in them.
            database.execute("insert into words (words) values ('optimize')")
        rows = connection.execute("select id from passages")
        vector_file.prune(self.folder, {row[0] for row in rows})
        connection.execute("vacuum")
        connection.execute("delete from state where name = 'purge'")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()


def _groups(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(json.loads(value))
