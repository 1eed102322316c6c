"""Kept texts of requests: shown to who may see them, every look on the audit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from triptych.errors import NotFound
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, Scope, across


async def look(database: Database, scope: Scope, request_id: str, *, actor: str) -> dict[str, Any]:
    """Return the kept texts of a request, and put the look on the audit in the same step.

    Raises: NotFound where nothing was kept, or it is not the scope's.
    """
    async with database.write(scope) as connection:
        row = await connection.first(
            select(t.contents).where(t.contents.c.request_id == request_id)
        )
        await _note(connection, request_id, actor, seen=row is not None)
    if row is None:
        raise NotFound("no content was kept of this request", code="content_not_kept")
    return row


async def note(database: Database, subject: str, *, actor: str, seen: bool) -> None:
    """Record in the audit that content was read or exported, or that this was tried."""
    async with database.write(across("the audit is one for everybody")) as connection:
        await _note(connection, subject, actor, seen=seen)


async def _note(connection: Connection, subject: str, actor: str, *, seen: bool) -> None:
    await audit.append(
        connection,
        actor=actor,
        action="content.view" if seen else "content.view_refused",
        subject=f"requests/{subject}",
        company_id=connection.scope.company_id,
    )
