"""The machines on this database: each of their workers leaves a sign of life, and what it owes.

What a lost machine takes along is what its last sign of life counted as waiting in its spool,
and what it answered after it.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Column, Float, Integer, String, Table, delete, func, select, text, update
from sqlalchemy.exc import IntegrityError

from triptych.errors import NotFound
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.schema import metadata

LOST_AFTER_S = 60.0
_SCOPE = across("machines serve every company")

table = Table(
    "nodes",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("worker", String(16), primary_key=True),
    Column("version", String(32), nullable=False),
    Column("schema", String(16), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
)
"""One row per worker that runs or was lost; `waiting`: bytes of records in its spool."""


async def beat(database: Database, row: dict[str, Any]) -> None:
    """Leave a worker's sign of life.

    Raises: StorageError.
    """
    c = table.c
    row = row | {"seen_at": time.time()}
    here = (c.node == row["node"], c.worker == row["worker"])
    async with database.write(_SCOPE) as connection:
        done = await connection.execute(update(table).where(*here).values(**row))
        if done.rowcount == 0:
            try:
                await connection.execute(table.insert(), row)
            except IntegrityError:  # a second process under this name was first
                return


async def leave(database: Database, node: str, worker: str = "") -> None:
    """Take away the row of a worker that stopped in order, or all rows of a node.

    Raises: StorageError.
    """
    c = table.c
    here = (c.node == node, c.worker == worker) if worker else (c.node == node,)
    async with database.write(_SCOPE) as connection:
        await connection.execute(delete(table).where(*here))


async def listed(database: Database) -> list[dict[str, Any]]:
    """List the machines with what each wrote and what it last said it still had to write."""
    now = time.time()
    r = t.requests.c
    async with database.read(_SCOPE) as connection:
        rows = await connection.all(select(table).order_by(table.c.node, table.c.worker))
        newest = {
            str(row["node"]): row["newest"]
            for row in await connection.all(
                select(r.node, func.max(r.created_at).label("newest"))
                .where(r.node.is_not(None), r.created_at > now - 86_400)
                .group_by(r.node)
            )
        }
    return [
        {
            "node": row["node"],
            "worker": row["worker"],
            "state": "alive" if now - row["seen_at"] < LOST_AFTER_S else "lost",
            "seen_s_ago": round(now - row["seen_at"], 1),
            "version": row["version"],
            "schema": row["schema"],
            "unwritten_bytes": row["waiting"],
            "records_lost": row["lost"],
            "newest_record_s_ago": _ago(now, newest.get(row["node"])),
        }
        for row in rows
    ]


def _ago(now: float, at: float | None) -> float | None:
    return None if at is None else round(now - at, 1)


async def forget(database: Database, node: str, *, actor: str) -> dict[str, Any]:
    """Take a machine that is gone for good off the list.

    Returns: what it took along: the bytes of records that its last sign of life counted, and what
    its requests had set aside under budgets without leaving a record.
    Raises: NotFound for a machine that is not listed, or that is alive.
    """
    now = time.time()
    c = table.c
    async with database.write(_SCOPE) as connection:
        rows = await connection.all(select(table).where(c.node == node))
        if not rows or any(now - row["seen_at"] < LOST_AFTER_S for row in rows):
            raise NotFound(
                f"no lost node is called {node[:64]!r}",
                hint=f"triptych gateway nodes; lost is one not seen for {LOST_AFTER_S:.0f} s",
            )
        last = max(row["seen_at"] for row in rows)
        held = await connection.first(_without_record(last))
        took = {
            "node": node,
            "last_seen_at": last,
            "unwritten_bytes": sum(row["waiting"] for row in rows),
            "requests_without_record": int(held["requests"]) if held else 0,
            "tokens_set_aside": int(held["tokens"] or 0) if held else 0,
        }
        await connection.execute(delete(table).where(c.node == node))
        await audit.append(
            connection, actor=actor, action="nodes.forget", subject=f"nodes/{node}", after=took
        )
    return took


def _without_record(before: float) -> Any:
    """Select what requests of that time set aside and never settled: no living node has them."""
    h, r = t.holds.c, t.requests.c
    recorded = select(r.request_id).where(r.request_id == h.request_id).exists()
    return select(
        func.count(func.distinct(h.request_id)).label("requests"),
        func.sum(h.tokens).label("tokens"),
    ).where(h.created_at < before + LOST_AFTER_S, ~recorded)


async def schema_of(database: Database) -> str:
    """Return the revision that the database is at, as a running program sees it.

    Raises: StorageError.
    """
    async with database.read(_SCOPE) as connection:
        row = (
            await connection.raw.execute(text("SELECT version_num FROM alembic_version"))
        ).first()
    return str(row[0]) if row else ""
