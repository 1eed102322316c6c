"""What workers found out about upstreams, for the workers of every node: the newest word each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Float, String, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from triptych.tiers.store.database import Database, across
from triptych.tiers.store.schema import metadata

_SCOPE = across("upstreams serve every company")

table = Table(
    "breaker_news",
    metadata,
    Column("upstream", String(64), primary_key=True),
    Column("news", String(16), nullable=False),
    Column("until", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("worker", String(96), nullable=False),
)
"""`news`: failing, held until a time, or closed by an admin."""


async def tell(database: Database, news: Mapping[str, tuple[str, float]], worker: str) -> None:
    """Write what happened to each upstream, and for how many seconds it holds.

    Raises: StorageError.
    """
    now = time.time()
    rows = [
        {
            "upstream": name,
            "news": word,
            "until": now + seconds,
            "changed_at": now,
            "worker": worker,
        }
        for name, (word, seconds) in sorted(news.items())
    ]
    insert: Any = (sqlite if database.is_sqlite else postgresql).insert(table)
    names = ("news", "until", "changed_at", "worker")
    statement = insert.on_conflict_do_update(
        index_elements=[table.c.upstream], set_={name: insert.excluded[name] for name in names}
    )
    async with database.write(_SCOPE) as connection:
        await connection.execute(statement, rows)


async def read(database: Database) -> list[dict[str, Any]]:
    """Return all news, with the seconds that are left of each.

    Raises: StorageError.
    """
    now = time.time()
    async with database.read(_SCOPE) as connection:
        rows = await connection.all(select(table))
    return [{**row, "left_s": max(0.0, row["until"] - now)} for row in rows]
