"""Companies, users, memberships and keys: written here, kept in memory by every worker."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update

from triptych.errors import NotFound
from triptych.tiers.accounts import new_key
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.settings import raise_version

_SCOPE = across("keys and companies are made by admins")


async def has_admin(database: Database) -> bool:
    """Tell whether any admin key is left that works."""
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
    expires_at: float | None = None,
    actor: str,
) -> str:
    """Make a key.

    Returns: the key itself; only its digest is kept.
    """
    key, digest = new_key()
    async with database.write(_SCOPE) as connection:
        await connection.execute(
            t.api_keys.insert(),
            {
                "key_id": "key_" + secrets.token_hex(8),
                "digest": digest,
                "name": name,
                "kind": kind,
                "role": role,
                "user_id": user_id,
                "company_id": company_id,
                "scopes": list(scopes),
                "created_at": time.time(),
                "expires_at": expires_at,
                "revoked_at": None,
            },
        )
        await raise_version(connection, "accounts")
    return key


async def list_keys(database: Database) -> list[dict[str, Any]]:
    """List every key without its digest."""
    columns = [column for column in t.api_keys.columns if column.name != "digest"]
    async with database.read(_SCOPE) as connection:
        return await connection.all(select(*columns).order_by(t.api_keys.c.created_at))


async def revoke_key(database: Database, key_id: str, *, actor: str) -> None:
    """Revoke a key; every worker refuses it within a second.

    Raises: NotFound.
    """
    async with database.write(_SCOPE) as connection:
        done = await connection.execute(
            update(t.api_keys)
            .where(t.api_keys.c.key_id == key_id, t.api_keys.c.revoked_at.is_(None))
            .values(revoked_at=time.time())
        )
        if done.rowcount == 0:
            raise NotFound(f"there is no valid key {key_id!r}")
        await raise_version(connection, "accounts")


async def create_company(
    database: Database,
    company_id: str,
    name: str,
    *,
    industry: str | None = None,
    facts: dict[str, Any] | None = None,
    allow_external: bool = False,
    actor: str,
) -> None:
    """Enter a company."""
    async with database.write(_SCOPE) as connection:
        await connection.execute(
            t.companies.insert(),
            {
                "company_id": company_id,
                "name": name,
                "industry": industry,
                "facts": facts or {},
                "allow_external": allow_external,
                "created_at": time.time(),
                "deleted_at": None,
            },
        )
        await raise_version(connection, "accounts")


async def create_user(
    database: Database, user_id: str, *, role: str = "user", companies: Sequence[str] = ()
) -> None:
    """Enter a user and its memberships."""
    now = time.time()
    async with database.write(_SCOPE) as connection:
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
        await raise_version(connection, "accounts")
