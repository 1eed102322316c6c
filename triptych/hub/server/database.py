"""The hub's SQLite file: connections, transactions, migrations.

One connection per thread, write-ahead log, every commit synced before the caller goes on. The
tables are in `schema`. Left out: what the rows mean, which each module documents.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triptych.errors import StorageError
from triptych.hub.server.schema import MIGRATIONS

Row = sqlite3.Row


class Database:
    """Hand out connections to the hub's state; safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._migrate()

    def query(self, statement: str, *values: Any) -> list[Row]:
        """Return all rows of a reading statement."""
        with _storage_errors(self.path):
            return self._connection().execute(statement, values).fetchall()

    def one(self, statement: str, *values: Any) -> Row | None:
        """Return the first row of a reading statement, or None."""
        with _storage_errors(self.path):
            row: Row | None = self._connection().execute(statement, values).fetchone()
        return row

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: everything in the block, durably, or nothing."""
        connection = self._connection()
        with _storage_errors(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def write(self, statement: str, *values: Any) -> int:
        """Run one writing statement in a transaction of its own.

        Returns: the id of the row an INSERT made, else how many rows were touched.
        """
        with self.transaction() as connection:
            cursor = connection.execute(statement, values)
            inserted = statement.lstrip().upper().startswith("INSERT")
            return (cursor.lastrowid or 0) if inserted else cursor.rowcount

    def close(self) -> None:
        """Close every connection; the database is of no use afterwards."""
        with self._guard:
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, timeout=30, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._local.connection = connection
            with self._guard:
                self._opened.append(connection)
        return connection

    def _migrate(self) -> None:
        connection = self._connection()
        with _storage_errors(self.path):
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise StorageError(
                    f"{self.path} was written by a newer version of Triptych",
                    hint="use that version, or another --root",
                )
            for number in range(version, len(MIGRATIONS)):
                connection.executescript(
                    f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; "
                    f"PRAGMA user_version = {number + 1}; COMMIT;"
                )
        self.path.chmod(0o600)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        name = error.sqlite_errorname.removeprefix("SQLITE_")
        if not name.startswith(("FULL", "BUSY", "READONLY", "CANTOPEN", "IOERR")):
            raise
        raise StorageError(
            f"cannot use {path}: {error}",
            hint="free some space" if name == "FULL" else "is another process holding the file?",
            code="disk_full" if name == "FULL" else None,
        ) from error
