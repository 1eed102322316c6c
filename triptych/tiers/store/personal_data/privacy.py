"""Requests over personal data: asked, worked on, finished; each a row with a state, on the audit.

`admin.privacy` decides who may ask, `background` when a request is worked on, and what is given
out or erased `personal`'s.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, Literal, get_args

from sqlalchemy import and_, or_, select, update

from triptych.errors import EditConflict, NotFound
from triptych.tiers.rules.redaction import redact_deep
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, Scope, across
from triptych.tiers.store.personal_data.personal import Subject
from triptych.tiers.store.settings import raise_version

Kind = Literal["export", "erasure", "restriction", "correction"]
State = Literal["requested", "running", "done", "failed", "refused"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: A request whose worker died while at it is taken up again after this.
_ABANDONED_S = 600.0
_SCOPE = across("a request over personal data may concern any user")


async def ask(
    database: Database, kind: Kind, subject: Subject, details: dict[str, Any], *, actor: str
) -> str:
    """Write down a request.

    Returns: its id.
    """
    privacy_id = "prv_" + secrets.token_hex(10)
    now = time.time()
    async with database.write(_SCOPE) as connection:
        await connection.execute(
            t.privacy_requests.insert(),
            {
                "privacy_id": privacy_id,
                "kind": kind,
                **subject._asdict(),
                "state": "requested",
                "details": redact_deep(details),
                "asked_by": actor,
                "created_at": now,
                "updated_at": now,
            },
        )
        await _note(connection, privacy_id, subject, actor, f"privacy.{kind}", "requested")
        await raise_version(connection, "privacy")
    return privacy_id


async def _note(
    connection: Connection, privacy_id: str, subject: Subject, actor: str, action: str, state: str
) -> None:
    await audit.append(
        connection,
        actor=actor,
        action=action,
        subject=f"privacy/{privacy_id}",
        after={"state": state, **subject._asdict()},
        company_id=subject.company_id,
    )


async def claim(database: Database) -> dict[str, Any] | None:
    """Take the oldest request that waits for a worker; corrections wait for a person."""
    p = t.privacy_requests.c
    now = time.time()
    waits = or_(
        p.state == "requested", and_(p.state == "running", p.updated_at < now - _ABANDONED_S)
    )
    async with database.write(_SCOPE) as connection:
        row = await connection.first(
            select(t.privacy_requests)
            .where(waits, p.kind != "correction")
            .order_by(p.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if row is not None:
            await connection.execute(
                update(t.privacy_requests)
                .where(p.privacy_id == row["privacy_id"])
                .values(state="running", updated_at=now)
            )
    return row


async def finish(
    database: Database, row: Mapping[str, Any], state: State, result: dict[str, Any], *, actor: str
) -> None:
    """Write down what became of a request."""
    p = t.privacy_requests.c
    now = time.time()
    subject = Subject(row["company_id"], row["user_id"])
    async with database.write(_SCOPE) as connection:
        await connection.execute(
            update(t.privacy_requests)
            .where(p.privacy_id == row["privacy_id"])
            .values(state=state, result=result, updated_at=now, finished_at=now)
        )
        action = f"privacy.{row['kind']}"
        await _note(connection, row["privacy_id"], subject, actor, action, state)
        await raise_version(connection, "privacy")


async def close_correction(database: Database, privacy_id: str, note: str, *, actor: str) -> None:
    """Record that a person has corrected what was asked.

    Raises: NotFound, EditConflict when it is no open correction.
    """
    row = await one(database, _SCOPE, privacy_id)
    if row["kind"] != "correction" or row["state"] != "requested":
        raise EditConflict("only an open correction is closed by hand")
    await finish(database, row, "done", {"note": redact_deep(note)}, actor=actor)


async def one(database: Database, scope: Scope, privacy_id: str) -> dict[str, Any]:
    """Return one request.

    Raises: NotFound.
    """
    p = t.privacy_requests.c
    async with database.read(scope) as connection:
        row = await connection.first(select(t.privacy_requests).where(p.privacy_id == privacy_id))
    if row is None:
        raise NotFound("there is no such request", code="privacy_request_not_found")
    return row


async def listed(
    database: Database, scope: Scope, *, user_id: str | None = None, state: str | None = None
) -> list[dict[str, Any]]:
    """List requests, newest first."""
    p = t.privacy_requests.c
    statement = select(t.privacy_requests).order_by(p.created_at.desc()).limit(500)
    if user_id is not None:
        statement = statement.where(p.user_id == user_id)
    if state is not None:
        statement = statement.where(p.state == state)
    async with database.read(scope) as connection:
        return await connection.all(statement)


async def held(database: Database, subject: Subject) -> str | None:
    """Return why a subject's records must stay, if there is a legal hold on them."""
    h = t.legal_holds.c
    async with database.read(_SCOPE) as connection:
        row = await connection.first(select(h.reason).where(h.subject.in_(subject.names)))
    return None if row is None else str(row["reason"])


async def lately_erased(database: Database, since: float) -> list[dict[str, Any]]:
    """Return the erasures that were done since a time: what arrived late is erased again."""
    p = t.privacy_requests.c
    async with database.read(_SCOPE) as connection:
        return await connection.all(
            select(t.privacy_requests).where(
                p.kind == "erasure", p.state == "done", p.finished_at >= since
            )
        )
