"""Legal holds: whose records must stay, for a reason outside this program."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, select

from triptych.errors import NotFound
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, across

_SCOPE = across("legal holds are kept by admins")


async def put(database: Database, subject: str, reason: str, *, actor: str) -> None:
    """Put a hold on a subject, or give it another reason."""
    h = t.legal_holds.c
    async with database.write(_SCOPE) as connection:
        await connection.execute(delete(t.legal_holds).where(h.subject == subject))
        row = {"subject": subject, "reason": reason, "created_at": time.time(), "created_by": actor}
        await connection.execute(t.legal_holds.insert(), row)
        await audit.append(
            connection, actor=actor, action="legal_holds.put", subject=f"legal_holds/{subject}"
        )


async def lift(database: Database, subject: str, *, actor: str) -> None:
    """Take a hold away.

    Raises: NotFound.
    """
    h = t.legal_holds.c
    async with database.write(_SCOPE) as connection:
        done = await connection.execute(delete(t.legal_holds).where(h.subject == subject))
        if done.rowcount == 0:
            raise NotFound(f"there is no hold on {subject[:80]}")
        await audit.append(
            connection, actor=actor, action="legal_holds.lift", subject=f"legal_holds/{subject}"
        )


async def listed(database: Database) -> list[dict[str, Any]]:
    """List every hold."""
    async with database.read(_SCOPE) as connection:
        return await connection.all(select(t.legal_holds).order_by(t.legal_holds.c.subject))
