"""Write consent down as a history; the newest word counts, from the next request on."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select

from triptych.errors import InvalidQuery
from triptych.tiers.rules.consent import PURPOSES, Purpose
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, Scope, across
from triptych.tiers.store.settings import raise_version

_SCOPE = across("consent of users belongs to no company")


async def set_consent(
    database: Database,
    purpose: Purpose,
    granted: bool,
    *,
    company_id: str | None = None,
    user_id: str | None = None,
    actor: str,
) -> int:
    """Note that a company or a user allows a purpose, or no longer does.

    Returns: the id of the note, which is pinned to whatever it allows to keep.
    Raises: InvalidQuery unless it is for exactly one subject.
    """
    if purpose not in PURPOSES:
        raise InvalidQuery(f"purpose is one of {', '.join(PURPOSES)}", param="purpose")
    if (company_id is None) == (user_id is None):
        raise InvalidQuery("consent is a company's or a user's", param="company_id")
    async with database.write(_SCOPE) as connection:
        done = await connection.execute(
            t.consents.insert().returning(t.consents.c.consent_id),
            {
                "company_id": company_id,
                "user_id": user_id,
                "purpose": purpose,
                "granted": granted,
                "actor": actor,
                "created_at": time.time(),
            },
        )
        consent_id = int(done.scalar_one())
        await audit.append(
            connection,
            actor=actor,
            action="consent.set",
            subject=f"consent/{company_id or user_id}/{purpose}"[:160],
            after={"granted": granted, "consent_id": consent_id},
            company_id=company_id,
        )
        await raise_version(connection, "accounts")
    return consent_id


async def history(
    database: Database, scope: Scope, user_id: str | None = None
) -> list[dict[str, Any]]:
    """Return every word of a company, or of one user, newest first."""
    statement = select(t.consents).order_by(t.consents.c.consent_id.desc()).limit(500)
    if user_id is not None:
        statement = statement.where(t.consents.c.user_id == user_id)
    async with database.read(scope) as connection:
        return await connection.all(statement)
