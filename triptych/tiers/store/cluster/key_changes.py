"""Which key each change of the accounts was about: a worker reads that row, not all of them.

Signing in makes a key, so this is by far the most frequent change of the accounts.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Integer, String, Table, delete, select

from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, across
from triptych.tiers.store.schema import metadata

#: Versions that are remembered; who is further behind reads everything.
_KEPT = 5_000
#: More changed keys than this are read faster with all the others.
_MOST = 500
_SCOPE = across("workers keep the keys of everybody in memory")

table = Table(
    "key_changes",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("key_id", String(32), nullable=False),
)
"""A version of the topic `accounts` that one key's row led to."""


async def note(connection: Connection, version: int, key_id: str) -> None:
    """Note whose row a version of the accounts is about, with the change itself."""
    await connection.execute(table.insert(), {"version": version, "key_id": key_id})
    await connection.execute(delete(table).where(table.c.version <= version - _KEPT))


async def between(database: Database, known: int, now: int) -> list[dict[str, Any]] | None:
    """Return the rows of the keys that changed from one version of the accounts to another.

    Returns: None when anything else changed too, or too much.
    Raises: StorageError.
    """
    if not 0 < now - known <= _MOST:
        return None
    c = table.c
    async with database.read(_SCOPE) as connection:
        noted = await connection.all(select(table).where(c.version > known, c.version <= now))
        if len(noted) != now - known:
            return None
        ids = {row["key_id"] for row in noted}
        return await connection.all(select(t.api_keys).where(t.api_keys.c.key_id.in_(ids)))
