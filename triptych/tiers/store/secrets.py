"""Sealed secrets: stored, replaced and removed; never read back except to be sent."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, select, update

from triptych.errors import NotFound
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.settings import raise_version

_SCOPE = across("secrets are entered by admins")


async def save(database: Database, name: str, sealed: bytes, hint: str, *, actor: str) -> None:
    """Store a sealed secret in the place of the one before."""
    s = t.sealed_secrets.c
    row = {"sealed": sealed, "hint": hint, "updated_at": time.time(), "updated_by": actor}
    async with database.write(_SCOPE) as connection:
        done = await connection.execute(
            update(t.sealed_secrets).where(s.name == name).values(**row)
        )
        if done.rowcount == 0:
            await connection.execute(t.sealed_secrets.insert(), {"name": name, **row})
        await audit.append(connection, actor=actor, action="secrets.set", subject=f"secrets/{name}")
        await raise_version(connection, "secrets")


async def remove(database: Database, name: str, *, actor: str) -> list[str]:
    """Remove a secret, and with it put the entered upstreams that need it out of use.

    Returns: the names of those upstreams.
    Raises: NotFound.
    """
    u = t.spaces.c
    async with database.write(_SCOPE) as connection:
        done = await connection.execute(
            delete(t.sealed_secrets).where(t.sealed_secrets.c.name == name)
        )
        if done.rowcount == 0:
            raise NotFound(f"there is no secret {name[:64]!r}")
        using = (u.key_name == name, u.is_active.is_(True))
        rows = await connection.all(select(u.name).where(*using).order_by(u.name))
        stopped = [str(row["name"]) for row in rows]
        await connection.execute(
            update(t.spaces).where(*using).values(is_active=False, version=u.version + 1)
        )
        await audit.append(
            connection,
            actor=actor,
            action="secrets.remove",
            subject=f"secrets/{name}",
            after={"upstreams_stopped": stopped},
        )
        await raise_version(connection, "secrets")
        await raise_version(connection, "upstreams")
    return stopped


async def listed(database: Database) -> list[dict[str, Any]]:
    """List secrets without what they are."""
    s = t.sealed_secrets.c
    async with database.read(_SCOPE) as connection:
        return await connection.all(
            select(s.name, s.hint, s.updated_at, s.updated_by).order_by(s.name)
        )
