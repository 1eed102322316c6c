"""Memberships: which users belong to which companies, and which were invited.

A company invites; the user agrees, refuses or leaves by its own key. Left out: users, companies
and keys themselves (`accounts`).
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select, update

from triptych.errors import NotFound
from triptych.tiers.store import tables as t
from triptych.tiers.store.accounts import note, require
from triptych.tiers.store.database import Connection, Database, Scope, across
from triptych.tiers.store.settings import INVITED

_SCOPE = across("a user answers any company's invitation")


async def set_membership(
    database: Database, user_id: str, company_id: str, *, member: bool, scope: Scope, actor: str
) -> None:
    """Make a user a member of a company, or end that; effective within a second.

    Raises: NotFound.
    """
    async with database.write(scope) as connection:
        await require(connection, user_id, None)
        await require(connection, None, company_id)
        row = await _membership(connection, user_id, company_id)
        m = t.memberships.c
        here = (m.user_id == user_id, m.company_id == company_id)
        if member and row is None:
            await _insert_membership(connection, user_id, company_id, "user")
        elif member:
            await connection.execute(update(t.memberships).where(*here).values(role="user"))
        elif row is not None:
            await connection.execute(t.memberships.delete().where(*here))
        await _note_membership(
            connection, "add" if member else "remove", user_id, company_id, actor
        )


async def invite(
    database: Database, user_id: str, company_id: str, *, scope: Scope, actor: str
) -> bool:
    """Invite a user into a company: it becomes a member when it agrees.

    A user who was never entered is not told apart: who is entered is no company's to know.

    Returns: whether it is a member already.
    Raises: NotFound for an unknown company.
    """
    async with database.write(scope) as connection:
        await require(connection, None, company_id)
        row = await _membership(connection, user_id, company_id)
        if row is not None:
            return row["role"] != INVITED
        u = t.users.c
        entered = await connection.first(
            select(u.user_id).where(u.user_id == user_id, u.deleted_at.is_(None))
        )
        if entered is not None:
            await _insert_membership(connection, user_id, company_id, INVITED)
        await _note_membership(connection, "invite", user_id, company_id, actor)
    return False


async def agree(database: Database, user_id: str, company_id: str, *, actor: str) -> None:
    """Make an invited user a member, by its own word.

    Raises: NotFound where there is no invitation.
    """
    m = t.memberships.c
    async with database.write(_SCOPE) as connection:
        row = await _membership(connection, user_id, company_id)
        if row is None:
            raise NotFound(f"there is no invitation of {company_id[:40]!r}")
        await connection.execute(
            update(t.memberships)
            .where(m.user_id == user_id, m.company_id == company_id)
            .values(role="user")
        )
        await _note_membership(connection, "agree", user_id, company_id, actor)


async def leave(database: Database, user_id: str, company_id: str, *, actor: str) -> None:
    """End a user's membership or invitation, by its own word.

    Raises: NotFound.
    """
    m = t.memberships.c
    async with database.write(_SCOPE) as connection:
        if await _membership(connection, user_id, company_id) is None:
            raise NotFound(f"there is no membership in {company_id[:40]!r}")
        await connection.execute(
            t.memberships.delete().where(m.user_id == user_id, m.company_id == company_id)
        )
        await _note_membership(connection, "leave", user_id, company_id, actor)


async def members(
    database: Database, scope: Scope, company_id: str, *, with_invited: bool
) -> list[dict[str, Any]]:
    """List the members of a company, and with `with_invited` also those who have not agreed yet.

    A company does not see whom it invited: only users who are entered have an invitation.
    """
    m = t.memberships.c
    statement = select(m.user_id, m.role, m.created_at).where(m.company_id == company_id)
    if not with_invited:
        statement = statement.where(m.role != INVITED)
    async with database.read(scope) as connection:
        return await connection.all(statement.order_by(m.user_id))


async def memberships_of(database: Database, user_id: str) -> list[dict[str, Any]]:
    """List a user's companies and the invitations it has not answered."""
    m = t.memberships.c
    async with database.read(_SCOPE) as connection:
        return await connection.all(
            select(m.company_id, m.role, m.created_at)
            .where(m.user_id == user_id)
            .order_by(m.company_id)
        )


async def _membership(
    connection: Connection, user_id: str, company_id: str
) -> dict[str, Any] | None:
    m = t.memberships.c
    return await connection.first(
        select(t.memberships).where(m.user_id == user_id, m.company_id == company_id)
    )


async def _insert_membership(
    connection: Connection, user_id: str, company_id: str, role: str
) -> None:
    row = {"user_id": user_id, "company_id": company_id, "role": role}
    await connection.execute(t.memberships.insert(), {**row, "created_at": time.time()})


async def _note_membership(
    connection: Connection, action: str, user_id: str, company_id: str, actor: str
) -> None:
    await note(
        connection,
        f"members.{action}",
        f"companies/{company_id}/members/{user_id}",
        actor,
        company_id=company_id,
    )
