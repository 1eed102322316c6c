"""Companies, users, memberships and keys: written here, kept in memory by every worker."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from triptych.errors import EditConflict, Forbidden, NotFound
from triptych.tiers.rules.accounts import SESSION_PREFIX, digest, new_key
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.cluster import key_changes
from triptych.tiers.store.database import Connection, Database, Scope, across
from triptych.tiers.store.settings import INVITED, raise_version

_SCOPE = across("keys and companies are made by admins")
_KEY_COLUMNS = tuple(column for column in t.api_keys.columns if column.name != "digest")


async def has_admin(database: Database) -> bool:
    """Return whether any admin key is left that works."""
    async with database.read(_SCOPE) as connection:
        row = await connection.first(
            select(func.count().label("n"))
            .select_from(t.api_keys)
            .where(t.api_keys.c.role == "admin", t.api_keys.c.revoked_at.is_(None))
        )
    return bool(row and row["n"])


async def create_key(
    database: Database,
    *,
    name: str,
    kind: str = "service",
    role: str = "user",
    user_id: str | None = None,
    company_id: str | None = None,
    scopes: Sequence[str] = (),
    limits: Mapping[str, Any] | None = None,
    expires_at: float | None = None,
    key: str = "",
    session: bool = False,
    actor: str,
) -> str:
    """Make a key, or take one that an operator chose.

    Returns: the key itself; only its digest is kept.
    Raises: NotFound for a user or company that does not exist, Forbidden for a user who is no
    member of the company.
    """
    key = key or new_key()
    row = {
        "key_id": (SESSION_PREFIX if session else "key_") + secrets.token_hex(8),
        "digest": digest(key),
        "name": name,
        "kind": kind,
        "role": role,
        "user_id": user_id,
        "company_id": company_id,
        "scopes": list(scopes),
        "limits": dict(limits) if limits else None,
        "created_at": time.time(),
        "expires_at": expires_at,
        "revoked_at": None,
    }
    async with database.write(_SCOPE) as connection:
        await require(connection, user_id, company_id)
        await connection.execute(t.api_keys.insert(), row)
        await note(
            connection,
            "keys.create",
            f"keys/{row['key_id']}",
            actor,
            after={k: row[k] for k in ("name", "kind", "role", "user_id", "scopes", "expires_at")},
            company_id=company_id,
        )
    return key


async def require(connection: Connection, user_id: str | None, company_id: str | None) -> None:
    """Prove that a user and a company exist, and that the user is a member where both are named.

    Raises: NotFound, Forbidden.
    """
    if user_id is not None and company_id is not None:
        # One answer for a stranger and for a user who was never entered: it is no company's to know
        m = t.memberships.c
        found = await connection.first(
            select(m.user_id).where(
                m.user_id == user_id, m.company_id == company_id, m.role != INVITED
            )
        )
        if found is None:
            raise Forbidden(f"{user_id!r} is no member of {company_id!r}", code="not_a_member")
    if user_id is not None:
        u = t.users.c
        found = await connection.first(
            select(u.user_id).where(u.user_id == user_id, u.deleted_at.is_(None))
        )
        if found is None:
            raise NotFound(f"there is no user {user_id!r}")
    if company_id is not None:
        c = t.companies.c
        found = await connection.first(
            select(c.company_id).where(c.company_id == company_id, c.deleted_at.is_(None))
        )
        if found is None:
            raise NotFound(f"there is no company {company_id!r}")


async def note(
    connection: Connection,
    action: str,
    subject: str,
    actor: str,
    *,
    before: Any = None,
    after: Any = None,
    company_id: str | None = None,
) -> None:
    """Write a change into the audit and let every worker read the accounts again."""
    await audit.append(
        connection,
        actor=actor,
        action=action,
        subject=subject[:160],
        before=before,
        after=after,
        company_id=company_id,
    )
    version = await raise_version(connection, "accounts")
    kind, _, name = subject.partition("/")
    if kind == "keys":
        await key_changes.note(connection, version, name)


async def list_keys(database: Database, scope: Scope = _SCOPE) -> list[dict[str, Any]]:
    """List keys without their digests."""
    async with database.read(scope) as connection:
        return await connection.all(select(*_KEY_COLUMNS).order_by(t.api_keys.c.created_at))


async def revoke_key(database: Database, key_id: str, *, actor: str, scope: Scope = _SCOPE) -> None:
    """Revoke a key; every worker refuses it within a second.

    Raises: NotFound.
    """
    async with database.write(scope) as connection:
        done = await connection.execute(
            update(t.api_keys)
            .where(t.api_keys.c.key_id == key_id, t.api_keys.c.revoked_at.is_(None))
            .values(revoked_at=time.time())
        )
        if done.rowcount == 0:
            raise NotFound(f"there is no valid key {key_id[:40]!r}")
        await note(connection, "keys.revoke", f"keys/{key_id}", actor, company_id=scope.company_id)


async def limit_key(
    database: Database, key_id: str, limits: Mapping[str, Any], *, actor: str, scope: Scope
) -> None:
    """Set what a key may use; effective within a second, and in the audit.

    Raises: NotFound.
    """
    k = t.api_keys.c
    async with database.write(scope) as connection:
        row = await connection.first(
            select(k.limits, k.company_id).where(k.key_id == key_id, k.revoked_at.is_(None))
        )
        if row is None:
            raise NotFound(f"there is no valid key {key_id[:40]!r}")
        values = {"limits": dict(limits) or None}
        await connection.execute(update(t.api_keys).where(k.key_id == key_id).values(**values))
        await note(
            connection, "keys.limits", f"keys/{key_id}", actor, before={"limits": row["limits"]},
            after=values, company_id=row["company_id"],
        )  # fmt: skip


async def allow_content(database: Database, key_id: str, allowed: bool, *, actor: str) -> list[str]:
    """Let a key read kept texts, or no longer; effective within a second, and in the audit.

    Returns: the scopes of the key from now on.
    Raises: NotFound.
    """
    k = t.api_keys.c
    async with database.write(_SCOPE) as connection:
        row = await connection.first(
            select(k.scopes, k.company_id).where(k.key_id == key_id, k.revoked_at.is_(None))
        )
        if row is None:
            raise NotFound(f"there is no valid key {key_id[:40]!r}")
        before = list(row["scopes"] or ())
        after = [scope for scope in before if scope != "content"] + ["content"] * allowed
        await connection.execute(update(t.api_keys).where(k.key_id == key_id).values(scopes=after))
        await note(
            connection, "keys.content", f"keys/{key_id}", actor, before={"scopes": before},
            after={"scopes": after}, company_id=row["company_id"],
        )  # fmt: skip
    return after


async def create_company(
    database: Database,
    company_id: str,
    name: str,
    *,
    industry: str | None = None,
    facts: dict[str, Any] | None = None,
    allow_external: bool = False,
    mask_external: bool = False,
    actor: str,
) -> None:
    """Enter a company.

    Raises: EditConflict when it exists.
    """
    row = {
        "company_id": company_id,
        "name": name,
        "industry": industry,
        "facts": facts or {},
        "allow_external": allow_external,
        "mask_external": mask_external,
        "created_at": time.time(),
        "deleted_at": None,
    }
    try:
        async with database.write(_SCOPE) as connection:
            await connection.execute(t.companies.insert(), row)
            await note(
                connection,
                "companies.create",
                f"companies/{company_id}",
                actor,
                after={"name": audit.hashed(name), "allow_external": allow_external},
                company_id=company_id,
            )
    except IntegrityError as error:
        raise EditConflict(f"there is a company {company_id!r} already") from error


async def change_company(
    database: Database, company_id: str, values: dict[str, Any], scope: Scope, *, actor: str
) -> None:
    """Change a company's name, facts, or whether its content may leave.

    Raises: NotFound.
    """
    c = t.companies.c
    here = (c.company_id == company_id, c.deleted_at.is_(None))
    async with database.write(scope) as connection:
        row = await connection.first(select(t.companies).where(*here))
        if row is None:
            raise NotFound(f"there is no company {company_id[:40]!r}")
        if values:
            await connection.execute(update(t.companies).where(*here).values(**values))
        await note(
            connection,
            "companies.change",
            f"companies/{company_id}",
            actor,
            before=_told({name: row[name] for name in values}),
            after=_told(values),
            company_id=company_id,
        )


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a company's change for the audit: what it says of itself is erasable, so hashed."""
    return {
        name: value if name == "allow_external" else audit.hashed(value)
        for name, value in values.items()
    }


async def list_companies(database: Database, scope: Scope) -> list[dict[str, Any]]:
    """List companies that were not deleted."""
    c = t.companies.c
    async with database.read(scope) as connection:
        return await connection.all(
            select(t.companies).where(c.deleted_at.is_(None)).order_by(c.company_id)
        )


async def create_user(
    database: Database,
    user_id: str,
    *,
    role: str = "user",
    companies: Sequence[str] = (),
    actor: str = "command line",
) -> None:
    """Enter a user and its memberships.

    Raises: EditConflict when it exists, NotFound for an unknown company.
    """
    now = time.time()
    companies = list(dict.fromkeys(companies))
    try:
        async with database.write(_SCOPE) as connection:
            for company_id in companies:
                await require(connection, None, company_id)
            await connection.execute(
                t.users.insert(),
                {"user_id": user_id, "role": role, "created_at": now, "deleted_at": None},
            )
            for company_id in companies:
                await connection.execute(
                    t.memberships.insert(),
                    {
                        "user_id": user_id,
                        "company_id": company_id,
                        "role": "user",
                        "created_at": now,
                    },
                )
            await note(
                connection,
                "users.create",
                f"users/{user_id}",
                actor,
                after={"role": role, "companies": list(companies)},
            )
    except IntegrityError as error:
        raise EditConflict(f"there is a user {user_id!r} already") from error


async def list_users(database: Database) -> list[dict[str, Any]]:
    """List users with the companies they belong to."""
    async with database.read(_SCOPE) as connection:
        users = await connection.all(select(t.users).where(t.users.c.deleted_at.is_(None)))
        members = await connection.all(select(t.memberships).where(t.memberships.c.role != INVITED))
    companies: dict[str, list[str]] = {}
    for row in members:
        companies.setdefault(row["user_id"], []).append(row["company_id"])
    return [{**user, "companies": companies.get(user["user_id"], [])} for user in users]


async def role_of(database: Database, user_id: str) -> str | None:
    """Return a user's role, or None for one who was never entered."""
    u = t.users.c
    async with database.read(_SCOPE) as connection:
        row = await connection.first(
            select(u.role).where(u.user_id == user_id, u.deleted_at.is_(None))
        )
    return str(row["role"]) if row else None
