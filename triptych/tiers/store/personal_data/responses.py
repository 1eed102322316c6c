"""Answers of `/v1/responses` that a client asked to keep, so that the next question can go on.

Their texts are kept as they were, since a conversation goes on with them; they run out by their
class and are given out and erased with all else of a user (`retention`, `personal`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import JSON, Column, Float, Index, String, Table, delete, select

from triptych.errors import NotFound
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.acting import acting_user
from triptych.tiers.rules.redaction import classify
from triptych.tiers.store.database import Connection, Database, Scope, across, company
from triptych.tiers.store.schema import TENANT, metadata

table = Table(
    "kept_responses",
    metadata,
    Column("response_id", String(64), primary_key=True),
    Column("company_id", String(64), index=True),
    Column("user_id", String(64), index=True),
    Column("key_id", String(32), nullable=False),
    Column("previous_id", String(64)),
    Column("created_at", Float, nullable=False),
    Column("input", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    Column("classification", String(16), nullable=False),
    Index("ix_kept_responses_created", "classification", "created_at"),
    info=TENANT,
)
"""One row per answer: what was asked with it, and the answer; earlier turns are rows before it."""

#: Turns that one conversation may have.
_LONGEST = 1000


class Owner(NamedTuple):
    """Whose an answer is: a user's, or a key's own where it acts for no user."""

    company_id: str | None
    user_id: str | None
    key_id: str

    @property
    def scope(self) -> Scope:
        """Return whose rows a statement of this owner may touch."""
        if self.company_id is not None:
            return company(self.company_id)
        return across("an owner without a company reads its own answers")

    def mine(self) -> Any:
        """Select this owner's rows."""
        c = table.c
        whose = c.user_id == self.user_id if self.user_id else c.key_id == self.key_id
        none = c.user_id.is_(None) if not self.user_id else True
        return whose & none & c.company_id.is_not_distinct_from(self.company_id)


def owner_of(principal: Principal, user: str | None, company_id: str | None) -> Owner:
    """Return whose the answers are that a key asks for, with the user and company it names.

    Raises: Forbidden for a user's key that names another user.
    """
    company_id = company_id or principal.default_company()
    inside = company_id if principal.member_of(company_id) else None
    return Owner(inside, acting_user(principal, user), principal.key_id)


async def keep(
    database: Database,
    owner: Owner,
    input_items: Sequence[Mapping[str, Any]],
    body: Mapping[str, Any],
    previous_id: str | None,
) -> None:
    """Keep an answer.

    Raises: StorageError.
    """
    row = {
        "response_id": body["id"],
        **owner._asdict(),
        "previous_id": previous_id,
        "created_at": time.time(),
        "input": list(input_items),
        "body": dict(body),
        "classification": classify([input_items, body.get("output")]),
    }
    async with database.write(owner.scope) as connection:
        await connection.execute(table.insert(), row)


async def one(database: Database, owner: Owner, response_id: str) -> dict[str, Any]:
    """Return the row of an answer.

    Raises: NotFound where none is kept, or it is another owner's.
    """
    async with database.read(owner.scope) as connection:
        return await _one(connection, owner, response_id)


async def earlier(database: Database, owner: Owner, response_id: str) -> list[dict[str, Any]]:
    """Return all items of a conversation up to an answer, the oldest first.

    Raises: NotFound where a turn of it is not kept.
    """
    turns: list[list[dict[str, Any]]] = []
    wanted: str | None = response_id
    async with database.read(owner.scope) as connection:
        while wanted is not None and len(turns) < _LONGEST:
            row = await _one(connection, owner, wanted)
            turns.append([*row["input"], *row["body"]["output"]])
            wanted = row["previous_id"]
    return [item for turn in reversed(turns) for item in turn]


async def remove(database: Database, owner: Owner, response_id: str) -> None:
    """Delete an answer; what goes on from it can no longer be asked.

    Raises: NotFound.
    """
    async with database.write(owner.scope) as connection:
        await _one(connection, owner, response_id)
        await connection.execute(delete(table).where(table.c.response_id == response_id))


async def _one(connection: Connection, owner: Owner, response_id: str) -> dict[str, Any]:
    row = await connection.first(
        select(table).where(table.c.response_id == response_id, owner.mine())
    )
    if row is None:
        raise NotFound(
            f"no answer {response_id[:64]!r} is kept",
            hint="ask with store: true and go on within its retention, or send the whole input",
            code="response_not_found",
        )
    return row
