"""What is not kept for ever: stored data runs out by its class, and a report says what went.

Content stays as long as its class says (`sensitive`, `personal`, `non_personal`: what stood in it
before it was redacted). The operational record and feedback are pseudonymous: after that time a
record loses its names, and after the time of what is not personal it is deleted. Whose records
are under a legal hold keeps all of them. Doing it twice does nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table, and_, delete, func, not_, or_, select

from triptych.config.gateway import DataClass
from triptych.errors import NotFound
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.cluster import partitions
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.personal_data import responses
from triptych.tiers.store.personal_data.personal import delete_rows, make_nameless

DEFAULT_DAYS: Mapping[DataClass, float] = {
    "sensitive": 1,
    "personal": 30,
    "pseudonymous": 180,
    "non_personal": 730,
}
DAY_S = 86_400.0
_SCOPE = across("what runs out belongs to everybody")


def days(configured: Mapping[DataClass, float]) -> dict[DataClass, float]:
    """Return how long each class is kept."""
    return {**DEFAULT_DAYS, **configured}


async def run(
    database: Database, kept_days: Mapping[DataClass, float], now: float
) -> dict[str, int]:
    """Delete what was kept long enough.

    Returns: how many rows of each kind went.
    """
    holds = await _holds(database)
    before = {name: now - length * DAY_S for name, length in days(kept_days).items()}
    c, f, r, p = t.contents.c, t.feedback.c, t.requests.c, t.privacy_requests.c
    report = {}
    kinds: tuple[DataClass, ...] = ("sensitive", "personal", "non_personal")
    for name in kinds:
        old = and_(c.classification == name, c.created_at < before[name])
        report[f"contents_{name}"] = await delete_rows(
            database, t.contents, _free(t.contents, old, holds)
        )
        kept = responses.table
        old = and_(kept.c.classification == name, kept.c.created_at < before[name])
        report[f"responses_{name}"] = await delete_rows(database, kept, _free(kept, old, holds))
    report["feedback"] = await delete_rows(
        database, t.feedback, _free(t.feedback, f.created_at < before["pseudonymous"], holds)
    )
    report["requests_nameless"] = await make_nameless(
        database, _free(t.requests, r.created_at < before["pseudonymous"], holds)
    )
    dropped = await partitions.drop_before(database, before["non_personal"], holds)
    report["days_dropped"] = len(dropped)
    old = _free(t.requests, r.created_at < before["non_personal"], holds)
    tries = t.attempts.c.request_id.in_(select(r.request_id).where(old))
    report["attempts"] = await delete_rows(database, t.attempts, tries)
    report["requests"] = await delete_rows(database, t.requests, old)
    report["privacy_requests"] = await delete_rows(
        database,
        t.privacy_requests,
        _free(t.privacy_requests, p.finished_at < before["non_personal"], holds),
    )
    return report


async def last(database: Database) -> dict[str, Any] | None:
    """Return when it was last looked for what has run out, and the report."""
    async with database.read(_SCOPE) as connection:
        return await connection.first(
            select(t.background_tasks).where(t.background_tasks.c.name == "retention")
        )


async def _holds(database: Database) -> dict[str, list[str]]:
    async with database.read(_SCOPE) as connection:
        rows = await connection.all(select(t.legal_holds.c.subject))
    found: dict[str, list[str]] = {"company": [], "user": []}
    for row in rows:
        kind, _, name = row["subject"].partition(":")
        found.setdefault(kind, []).append(name)
    return found


def _free(table: Table, where: Any, holds: Mapping[str, list[str]]) -> Any:
    """Leave out the rows of those who are under a legal hold."""
    held = []
    for kind in ("company", "user"):
        # coalesce: a row without a name is under no hold, where NULL would be neither
        column = func.coalesce(table.c[f"{kind}_id"], "")
        if holds[kind]:
            held.append(column.in_(holds[kind]))
    return and_(where, not_(or_(*held))) if held else where


# -- legal holds: whose records must stay, for a reason outside this program -------------------


async def put_hold(database: Database, subject: str, reason: str, *, actor: str) -> None:
    """Put a hold on a subject, or give it another reason."""
    h = t.legal_holds.c
    async with database.write(_SCOPE) as connection:
        await connection.execute(delete(t.legal_holds).where(h.subject == subject))
        row = {"subject": subject, "reason": reason, "created_at": time.time(), "created_by": actor}
        await connection.execute(t.legal_holds.insert(), row)
        await audit.append(
            connection, actor=actor, action="legal_holds.put", subject=f"legal_holds/{subject}"
        )


async def lift_hold(database: Database, subject: str, *, actor: str) -> None:
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


async def list_holds(database: Database) -> list[dict[str, Any]]:
    """List every hold."""
    async with database.read(_SCOPE) as connection:
        return await connection.all(select(t.legal_holds).order_by(t.legal_holds.c.subject))
