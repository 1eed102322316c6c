"""The database behind the gateway: SQLite in one file, or PostgreSQL by address.

Every statement goes through a `Scope`: rows of companies are only touched by a statement that is
limited to one company, or by one that says it works across all of them; PostgreSQL holds the same
line beneath it with row-level security. Left out: what is stored (`tables`) and how a database
gets there (`migrations`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Table, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql import Delete, Executable, Select, Update, visitors
from sqlalchemy.sql.dml import Insert

from triptych.config import environment
from triptych.errors import StorageError, TierError

_CHECKPOINTS = 20
_CHECKPOINT_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows a statement may touch: one company's, or all of them with a reason."""

    company_id: str | None
    across: str = ""


def company(company_id: str) -> Scope:
    """Limit statements to one company."""
    return Scope(company_id)


def across(reason: str) -> Scope:
    """Work across all companies, for a reason that reads well in a review."""
    return Scope(None, reason)


class ScopeError(TierError):
    """A statement on companies' rows has no scope: a mistake of ours, never shown."""

    default_code = "unscoped_statement"


class Connection:
    """Execute scoped statements inside one transaction."""

    def __init__(self, raw: AsyncConnection, scope: Scope) -> None:
        self.raw = raw
        self.scope = scope

    async def execute(
        self, statement: Executable, rows: Sequence[dict[str, Any]] | dict[str, Any] | None = None
    ) -> Any:
        """Execute one statement, limited to the scope's company."""
        return await self.raw.execute(scoped(statement, self.scope, rows), rows)

    async def all(self, statement: Select[Any]) -> list[dict[str, Any]]:
        """Return every row as a dictionary."""
        result = await self.execute(statement)
        # the driver's names are strings of a kind of their own
        names = [str(name) for name in result.keys()]  # noqa: SIM118
        return [dict(zip(names, row, strict=True)) for row in result]

    async def first(self, statement: Select[Any]) -> dict[str, Any] | None:
        """Return the first row as a dictionary, if there is one."""
        result = await self.execute(statement)
        names = [str(name) for name in result.keys()]  # noqa: SIM118
        row = result.first()
        return None if row is None else dict(zip(names, row, strict=True))


class Database:
    """One engine and its transactions."""

    def __init__(self, url: str = "") -> None:
        self.url = make_url(url or default_url())
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database not in (None, "", ":memory:"):
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"pool_pre_ping": False}
        if not self.is_sqlite:
            options |= {"pool_size": 5, "max_overflow": 5, "pool_timeout": 10}
        self.engine: AsyncEngine = create_async_engine(_async_url(self.url), **options)
        if self.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "invalidate", _roll_back)

    @asynccontextmanager
    async def write(self, scope: Scope) -> AsyncIterator[Connection]:
        """Open a transaction that commits when the block succeeds.

        Raises: StorageError when the database cannot be reached.
        """
        async with self._connect() as raw:
            if self.is_sqlite:
                # Taking the write lock first: a reader that turns writer later may be refused.
                await raw.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                await _confine(raw, scope)
            yield Connection(raw, scope)
            await raw.commit()

    @asynccontextmanager
    async def read(self, scope: Scope) -> AsyncIterator[Connection]:
        """Open a transaction that sees one moment of the database.

        Raises: StorageError when the database cannot be reached.
        """
        async with self._connect() as raw:
            if self.is_sqlite:
                await raw.exec_driver_sql("BEGIN")
            else:
                await _confine(raw, scope)
            yield Connection(raw, scope)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self.engine.connect() as raw:
                yield raw
        except IntegrityError:
            raise  # the caller knows which promise its row would break
        except (DBAPIError, OSError, TimeoutError) as error:
            raise _translated(error) from error
        except SQLAlchemyError as error:
            raise StorageError(f"the database refuses: {type(error).__name__}") from error

    async def forget_deleted(self) -> None:
        """Make what was deleted be gone from the files, too.

        SQLite: deleted content is overwritten (`secure_delete`), and older pages leave the
        write-ahead log. PostgreSQL: dead rows are vacuumed; its own log and backups are not ours.

        Raises: StorageError when readers keep the log in use.
        """
        if not self.is_sqlite:
            async with self._connect() as raw:
                loose = await raw.execution_options(isolation_level="AUTOCOMMIT")
                await loose.exec_driver_sql("VACUUM")
            return
        for _ in range(_CHECKPOINTS):
            async with self._connect() as raw:
                done = await raw.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                row = done.first()
            if row is None or row[0] == 0:
                return
            await asyncio.sleep(_CHECKPOINT_PAUSE_S)
        raise StorageError(
            "what was erased still stands in the database's log: a reader keeps it in use",
            hint="it is tried again; end programs that hold gateway.db open",
            retryable=True,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


async def _confine(raw: AsyncConnection, scope: Scope) -> None:
    """Set in PostgreSQL whose rows this transaction may touch, beneath what `scoped` does."""
    whose = "*" if scope.across else scope.company_id or ""
    await raw.execute(text("SELECT set_config('triptych.company', :whose, true)"), {"whose": whose})


def default_url() -> str:
    """Return the address of the embedded database."""
    return f"sqlite+aiosqlite:///{environment.home() / 'gateway.db'}"


def scoped(
    statement: Executable, scope: Scope, rows: Sequence[dict[str, Any]] | dict[str, Any] | None
) -> Executable:
    """Limit a statement to the scope's company.

    Raises: ScopeError when it touches companies' rows and the scope names neither a company nor
    a reason; or when it would insert a row of another company.
    """
    tenant = [t for t in _tables(statement) if "tenant" in t.info]
    if not tenant:
        return statement
    if scope.across:
        return statement
    if scope.company_id is None:
        raise ScopeError(f"a statement on {tenant[0].name} has no scope")
    if isinstance(statement, Insert):
        _check_rows(statement, scope.company_id, rows)
        return statement
    if isinstance(statement, (Select, Update, Delete)):
        for table in tenant:
            statement = statement.where(table.c[table.info["tenant"]] == scope.company_id)
        return statement
    raise ScopeError("only select, insert, update and delete can be scoped")


def _check_rows(
    statement: Insert,
    company_id: str,
    rows: Sequence[dict[str, Any]] | dict[str, Any] | None,
) -> None:
    given = [rows] if isinstance(rows, dict) else list(rows or ())
    if not given:
        given = [dict(statement.compile().params)]
    if any(row.get("company_id") != company_id for row in given):
        raise ScopeError("an insert names another company than its scope")


def _tables(statement: Executable) -> list[Table]:
    found: dict[str, Table] = {}
    for element in visitors.iterate(cast(Any, statement)):
        if isinstance(element, Table):
            found[element.name] = element
        table = getattr(element, "table", None)
        if isinstance(table, Table):
            found[table.name] = table
    return list(found.values())


def _async_url(url: Any) -> Any:
    if url.drivername == "sqlite":
        return url.set(drivername="sqlite+aiosqlite")
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+asyncpg")
    return url


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver must not begin transactions by itself; `read` and `write` do.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "busy_timeout=10000",
        "cache_size=-8000",
        "journal_size_limit=67108864",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _roll_back(connection: Any, *_: Any) -> None:
    """Let go of the locks of a transaction whose task was cancelled.

    The pool closes such a connection without a word to the database, and SQLite keeps a closed
    connection's locks as long as a cursor of it lives, in a traceback for instance.
    """
    connection.rollback()


def _translated(error: BaseException) -> StorageError:
    return StorageError(
        f"the database does not answer: {type(getattr(error, 'orig', None) or error).__name__}",
        hint="check gateway.database_url; requests go on and their records wait in the spool",
        code="database_unavailable",
        retryable=True,
    )
