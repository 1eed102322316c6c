"""What workers keep in memory and share through the database: flags, keys, Spaces, prompts.

Every change raises its topic's version in the same transaction; workers look at the versions
twice a second and read again what moved. While the database is away they keep the last good
state and say that it is stale.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select, update

from triptych.tiers.accounts import Company, Principal
from triptych.tiers.consent import Consent, Subject
from triptych.tiers.flags import FlagSet, default_definitions
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, across

TOPICS = ("flags", "accounts", "upstreams", "prompts")
_SCOPE = across("workers keep the keys and flags of everybody in memory")


async def versions(database: Database) -> dict[str, int]:
    """Return every topic's version."""
    async with database.read(_SCOPE) as connection:
        rows = await connection.all(select(t.changes))
    return dict.fromkeys(TOPICS, 0) | {row["topic"]: row["version"] for row in rows}


async def raise_version(connection: Connection, topic: str) -> None:
    """Tell every worker that a topic changed, with the transaction that changes it."""
    done = await connection.execute(
        update(t.changes).where(t.changes.c.topic == topic).values(version=t.changes.c.version + 1)
    )
    if done.rowcount == 0:
        await connection.execute(t.changes.insert(), {"topic": topic, "version": 1})


async def load_flags(database: Database) -> FlagSet:
    """Read the flags with their overrides; what no admin touched has its default."""
    async with database.read(_SCOPE) as connection:
        rows = await connection.all(select(t.flags))
        overrides = await connection.all(select(t.flag_overrides))
        version = await _version(connection, "flags")
    definitions = default_definitions()
    definitions.update({row["key"]: row["definition"] for row in rows if row["key"] in definitions})
    by_scope: dict[str, dict[tuple[str, str], str]] = {"user": {}, "company": {}}
    for row in overrides:
        by_scope[row["scope"]][(row["key"], row["subject_id"])] = row["variant"]
    return FlagSet(version, definitions, by_scope["user"], by_scope["company"])


async def load_principals(database: Database) -> dict[str, Principal]:
    """Read who stands behind every valid key, by the key's digest."""
    async with database.read(_SCOPE) as connection:
        keys = await connection.all(select(t.api_keys).where(t.api_keys.c.revoked_at.is_(None)))
        companies = await _companies(connection)
        member_rows = await connection.all(select(t.memberships))
        roles = {
            row["user_id"]: row["role"]
            for row in await connection.all(
                select(t.users.c.user_id, t.users.c.role).where(t.users.c.deleted_at.is_(None))
            )
        }
    members: dict[str, dict[str, Company]] = {}
    for row in member_rows:
        if company := companies.get(row["company_id"]):
            members.setdefault(row["user_id"], {})[row["company_id"]] = company
    now = time.time()
    return {
        key["digest"]: _principal(key, companies, members, roles)
        for key in keys
        if (key["expires_at"] is None or key["expires_at"] > now)
        and (key["user_id"] is None or key["user_id"] in roles)
    }


def _principal(
    key: dict[str, Any],
    companies: dict[str, Company],
    members: dict[str, dict[str, Company]],
    roles: dict[str, str],
) -> Principal:
    user_id = key["user_id"]
    mine = dict(members.get(user_id, {})) if user_id else {}
    if key["role"] == "admin":
        mine = companies
    elif key["company_id"]:
        one = companies.get(key["company_id"])
        mine = {one.company_id: one} if one and (not user_id or one.company_id in mine) else {}
    return Principal(
        key_id=key["key_id"],
        kind=key["kind"],
        role=key["role"],
        user_id=user_id,
        companies=mine,
        scopes=frozenset(key["scopes"]),
        expires_at=key["expires_at"] or float("inf"),
    )


async def load_consents(database: Database) -> dict[Subject, Consent]:
    """Read the newest word of every company and user on every purpose."""
    from triptych.tiers.store import consents

    async with database.read(_SCOPE) as connection:
        return await consents.current(connection)


async def _companies(connection: Connection) -> dict[str, Company]:
    rows = await connection.all(select(t.companies).where(t.companies.c.deleted_at.is_(None)))
    found: dict[str, Company] = {}
    for row in rows:
        facts = {"company_name": row["name"], "industry": row["industry"], **row["facts"]}
        found[row["company_id"]] = Company(
            row["company_id"],
            row["allow_external"],
            {name: value for name, value in facts.items() if value not in (None, "")},
        )
    return found


async def load_prompts(database: Database) -> dict[str, str]:
    """Read the active system prompt of each tier."""
    async with database.read(_SCOPE) as connection:
        rows = await connection.all(select(t.prompts).where(t.prompts.c.active))
    return {row["tier"]: row["text"] for row in rows}


async def load_upstreams(database: Database) -> list[dict[str, Any]]:
    """Read the Spaces and other upstreams that admins entered and left active."""
    async with database.read(_SCOPE) as connection:
        return await connection.all(select(t.spaces).where(t.spaces.c.is_active))


async def _version(connection: Connection, topic: str) -> int:
    row = await connection.first(select(t.changes.c.version).where(t.changes.c.topic == topic))
    return int(row["version"]) if row else 0
