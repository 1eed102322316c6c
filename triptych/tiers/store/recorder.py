"""The record of requests: into the spool before the answer, from there into the database.

Batches of at most `_BATCH` records, one transaction each, rows in the order of their ids so that
several writers never wait for each other in a circle. Inserting the same record twice changes
nothing, which makes replay after a crash a repetition of the same step; what was used is counted
in the transaction that inserts its record.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import JSON, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from triptych.errors import StorageError
from triptych.processes import BackgroundTask
from triptych.tiers.rules.budgets import subjects
from triptych.tiers.store import refused, spool, tables, usage
from triptych.tiers.store.budgets import usage_of
from triptych.tiers.store.database import Connection, Database, across

logger = logging.getLogger("triptych.gateway.record")

#: Small enough that bringing one in does not hold up the requests of the moment.
_BATCH = 200
_RETRY_S = 1.0
_SCOPE = across("the record of every company is written by one writer")

#: A request whose end was never reported.
INTERRUPTED: dict[str, Any] = {
    "outcome": "interrupted",
    "status": 0,
    "attempts": 0,
    "tokens_source": "unknown",
    "cached": False,
    "truncated_messages": 0,
}


class Recorder:
    """Take records from requests and bring them into the database, whatever happens."""

    def __init__(
        self,
        database: Database,
        root: Path,
        *,
        max_bytes: int = 512 * 1024 * 1024,
        interval_s: float = 0.1,
        node: str = "",
    ) -> None:
        self.database = database
        self.node = node
        self.root = Path(root)
        self.spool = spool.Spool(self.root, max_bytes=max_bytes)
        self.interval_s = interval_s
        self.stored = 0
        self.failing_since: float | None = None
        self.task = BackgroundTask("recorder", self._run, logger=logger)
        self._closing = False
        self._one_at_a_time = asyncio.Lock()
        self._unsure = False
        """Whether the batch that failed last may be in the database all the same."""

    async def open(self) -> None:
        """Bring in what dead workers left, then start writing batches."""
        await self.replay()
        self.task.start()

    async def _run(self) -> None:
        while not self._closing:
            await asyncio.sleep(self.interval_s)
            try:
                while await self.flush() >= _BATCH:
                    pass
                self.task.succeeded()
            except StorageError as error:
                await self._wait_out(error)

    async def _wait_out(self, error: StorageError) -> None:
        if self.failing_since is None:
            self.failing_since = time.time()
            logger.warning("records wait in the spool: %s", error.message)
        await asyncio.sleep(_RETRY_S)

    async def flush(self) -> int:
        """Write one batch.

        Returns: how many records it held.
        Raises: StorageError; nothing is lost then.
        """
        async with self._one_at_a_time:
            records, cursor = self.spool.read(_BATCH)
            if records:
                again, self._unsure = self._unsure, True
                await self._store(records, again=again)
                self._unsure = False
                self.stored += len(records)
                if self.failing_since is not None:
                    logger.warning("records flow into the database again")
                    self.failing_since = None
            self.spool.advance(cursor)
            return len(records)

    async def _store(self, records: Sequence[dict[str, Any]], *, again: bool) -> None:
        """Write one batch; when the database refuses it, one by one, trimmed.

        Raises: StorageError when the database is away.
        """
        for record in records:
            record.setdefault("node", self.node)
        try:
            async with self.database.write(_SCOPE) as connection:
                await insert(connection, records, again=again)
        except refused.ERRORS as error:
            if not refused.is_refusal(error):
                raise
            logger.warning("a batch is refused and goes in record by record: %s", error)
        else:
            return
        for record in records:
            fitting = refused.trimmed(record)
            try:
                async with self.database.write(_SCOPE) as connection:
                    await insert(connection, [fitting], again=True)
            except refused.ERRORS as error:
                if not refused.is_refusal(error):
                    raise
                self.spool.lost += 1
                logger.error("a record is set aside in %s", refused.set_aside(self.root, record))

    @property
    def oldest_s(self) -> float:
        """Seconds that the oldest record which the database does not have has waited; 0: none."""
        since = self.spool.waiting_since_s
        return 0.0 if since is None else time.monotonic() - since

    async def replay(self) -> tuple[int, int]:
        """Bring in what dead workers left in their spools.

        Returns: how many records were found, and how many requests were interrupted.
        """
        found = interrupted = 0
        for folder, _ in spool.orphans(self.root):
            ends, open_starts = spool.left_behind(folder)
            records = [*ends, *({**INTERRUPTED, **start} for start in open_starts)]
            try:
                for first in range(0, len(records), _BATCH):
                    await self._store(records[first : first + _BATCH], again=True)
            except StorageError as error:
                logger.warning("a spool waits for the database: %s", error.message)
                continue
            spool.remove(folder)
            found += len(ends)
            interrupted += len(open_starts)
        if found or interrupted:
            logger.warning("replayed %d records, %d requests interrupted", found, interrupted)
        return found, interrupted

    async def close(self) -> None:
        """Drain, then let go; what the database does not take stays for the next start."""
        self._closing = True
        await self.task.stop()
        drained = False
        try:
            while await self.flush():
                pass
            drained = self.spool.in_flight == 0
        except StorageError as error:
            logger.warning("the spool keeps what is left: %s", error.message)
        self.spool.close(drained=drained)


async def replayed(database: Database, root: Path, *, node: str = "") -> tuple[int, int]:
    """Bring in the spools below a folder that belonged to another machine.

    Returns: as `Recorder.replay`.
    Raises: StorageError.
    """
    kept = root.parent / "node"
    if not node and kept.is_file():
        node = kept.read_text("utf-8").strip()
    with tempfile.TemporaryDirectory() as own:
        recorder = Recorder(database, Path(own), node=node)
        recorder.root = root
        try:
            return await recorder.replay()
        finally:
            await recorder.close()


async def insert(
    connection: Connection, records: Sequence[dict[str, Any]], *, again: bool = False
) -> None:
    """Insert records and their attempts, and settle what was set aside for them.

    Records already there are left as they are; with `again` it is looked up which, so that what
    they used is not counted twice.
    """
    ordered = sorted(records, key=_request_id)
    known = await _known(connection, ordered) if again else frozenset()
    fresh = [record for record in ordered if record["request_id"] not in known]
    await _settle(connection, fresh)
    await usage.count(connection, fresh)
    await _insert(connection, tables.requests, ordered)
    tries = [attempt for record in ordered for attempt in record.get("tries", ())]
    await _insert(connection, tables.attempts, tries)
    contents = [record["content"] for record in ordered if record.get("content")]
    await _insert(connection, tables.contents, contents)


async def _known(connection: Connection, records: Sequence[dict[str, Any]]) -> frozenset[str]:
    column = tables.requests.c.request_id
    ids = [record["request_id"] for record in records]
    rows = await connection.all(select(column).where(column.in_(ids)))
    return frozenset(row["request_id"] for row in rows)


async def _settle(connection: Connection, records: Sequence[dict[str, Any]]) -> None:
    """Count what was used in the place of what was set aside."""
    used: dict[tuple[str, int, str], list[int]] = {}
    held = []
    for record in records:
        if record.get("held") or record["outcome"] == "interrupted":
            held.append(record["request_id"])
        tokens, cost_microusd = usage_of(record)
        day, node = int(record["created_at"] // 86_400), record.get("node") or ""
        for name in subjects(record["key_id"], record.get("company_id"), record.get("user_id")):
            sums = used.setdefault((name, day, node), [0, 0, 0])
            for place, amount in enumerate((1, tokens, cost_microusd)):
                sums[place] += amount
    rows = [dict(zip(_SPENT, (*key, *sums), strict=True)) for key, sums in sorted(used.items())]
    if rows:
        await connection.execute(_add_up(connection), rows)
    if held:
        holds = tables.holds
        await connection.execute(delete(holds).where(holds.c.request_id.in_(held)))


def _add_up(connection: Connection) -> Any:
    spend = tables.spend
    sqlite_here = connection.raw.dialect.name == "sqlite"
    statement: Any = sqlite.insert(spend) if sqlite_here else postgresql.insert(spend)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[spend.c[name] for name in _SPENT[:3]],
        set_={name: spend.c[name] + new[name] for name in _SPENT[3:]},
    )


_SPENT = ("subject", "day", "node", "requests", "tokens", "cost_microusd")


async def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Hand rows to the driver as they are: this is the one statement that runs all the time."""
    if not rows:
        return
    dialect = connection.raw.dialect
    statement = _STATEMENTS.get((table.name, dialect.name))
    if statement is None:
        statement = _STATEMENTS[(table.name, dialect.name)] = Prepared(table, dialect)
    await connection.raw.exec_driver_sql(statement.sql, [statement.values(row) for row in rows])


class Prepared:
    """An insert that leaves existing rows alone, compiled once for a driver."""

    def __init__(self, table: Table, dialect: Any) -> None:
        make = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
        compiled = make(table).on_conflict_do_nothing().compile(dialect=dialect)
        self.sql = str(compiled)
        names: list[str] = list(compiled.positiontup or ())
        self._blank = dict.fromkeys(names)
        self._pick = itemgetter(*names)
        self._json = [c.name for c in table.columns if isinstance(c.type, JSON)]

    def values(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """Put a row's values in the statement's order."""
        whole = {**self._blank, **row}
        for name in self._json:
            if whole[name] is not None:
                whole[name] = orjson.dumps(whole[name]).decode()
        return tuple(self._pick(whole))


_STATEMENTS: dict[tuple[str, str], Prepared] = {}
_request_id = itemgetter("request_id")
