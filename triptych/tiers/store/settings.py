"""What workers keep in memory and share through the database: flags, keys, Spaces, prompts.

Every change raises its topic's version in the same transaction; workers look at the versions
twice a second and read again what moved. The rows of the last good state are also kept in a file
that only its owner can read: while the database is away a worker goes on with them, also one that
starts then, and says that they are stale.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Table, func, select, update

from triptych.durable import write_atomic
from triptych.tiers.rules.accounts import NO_LIMITS, Company, KeyLimits, Principal
from triptych.tiers.rules.budgets import Budget, Budgets
from triptych.tiers.rules.consent import Consent, Subject
from triptych.tiers.rules.flags import FlagSet, default_definitions
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, across

FORMAT_VERSION = 1
INVITED = "invited"
"""A membership that its user has not agreed to yet: it entitles to nothing."""
_SCOPE = across("workers keep the keys and flags of everybody in memory")
_TABLES: Mapping[str, tuple[Table, ...]] = {
    "flags": (t.flags, t.flag_overrides),
    "accounts": (t.companies, t.users, t.memberships, t.api_keys, t.consents),
    "secrets": (t.sealed_secrets,),
    "upstreams": (t.spaces,),
    "prompts": (t.prompts,),
    "budgets": (t.budgets,),
    "privacy": (),
}
TOPICS = tuple(_TABLES)

Rows = dict[str, list[dict[str, Any]]]
"""A table's name -> its rows."""


async def versions(database: Database) -> dict[str, int]:
    """Return every topic's version.

    Raises: StorageError.
    """
    async with database.read(_SCOPE) as connection:
        rows = await connection.all(select(t.changes))
    return dict.fromkeys(TOPICS, 0) | {row["topic"]: row["version"] for row in rows}


async def raise_version(connection: Connection, topic: str) -> int:
    """Announce to every worker that a topic changed, with the transaction that changes it.

    Returns: the new version.
    """
    c = t.changes.c
    raised = update(t.changes).where(c.topic == topic).values(version=c.version + 1)
    version = (await connection.execute(raised.returning(c.version))).scalar()
    if version is None:
        await connection.execute(t.changes.insert(), {"topic": topic, "version": 1})
        return 1
    return int(version)


async def read(database: Database, topic: str) -> Rows:
    """Read the rows of a topic at one moment.

    Raises: StorageError.
    """
    async with database.read(_SCOPE) as connection:
        return {
            str(table.name): [
                {name: _text(value) for name, value in row.items()}
                for row in await connection.all(
                    _newest(table) if table is t.consents else select(table)
                )
            ]
            for table in _TABLES[topic]
        }


def _text(value: Any) -> Any:
    """Write bytes as base64, so that the rows can be kept in a file."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _newest(consents: Table) -> Any:
    """Of the history of consent only the newest word of each subject is kept in memory."""
    c = consents.c
    newest = select(func.max(c.consent_id)).group_by(c.company_id, c.user_id, c.purpose)
    return select(consents).where(c.consent_id.in_(newest))


def save(path: Path, versions: Mapping[str, int], rows: Rows) -> None:
    """Keep the last good state, for the time when there is no database to ask."""
    whole = {"format_version": FORMAT_VERSION, "versions": versions, "rows": rows}
    write_atomic(path, orjson.dumps(whole), private=True)


def restore(path: Path) -> Rows | None:
    """Return the last good state; None where there is none."""
    try:
        whole = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    if whole.get("format_version") != FORMAT_VERSION:
        return None
    rows: Rows = whole["rows"]
    return rows


# -- what the rows mean --------------------------------------------------------------------------


def flag_set(rows: Rows, version: int) -> FlagSet:
    """Build the flags with their overrides; what no admin touched has its default."""
    definitions = default_definitions()
    definitions.update(
        {row["key"]: row["definition"] for row in rows["flags"] if row["key"] in definitions}
    )
    by_scope: dict[str, dict[tuple[str, str], str]] = {"user": {}, "company": {}}
    for row in rows["flag_overrides"]:
        by_scope[row["scope"]][(row["key"], row["subject_id"])] = row["variant"]
    return FlagSet(version, definitions, by_scope["user"], by_scope["company"])


def principals(rows: Rows) -> dict[str, Principal]:
    """Build the principal of every valid key, by the key's digest."""
    return Accounts(rows).principals(rows["api_keys"])


class Accounts:
    """Companies, users and memberships as the principals of keys need them; built once for all."""

    def __init__(self, rows: Rows) -> None:
        self._companies = companies(rows)
        self._users = frozenset(u["user_id"] for u in rows["users"] if u["deleted_at"] is None)
        self._members: dict[str, dict[str, Company]] = {}
        self._people: dict[str, set[str]] = {}
        for row in rows["memberships"]:
            company = self._companies.get(row["company_id"])
            if company and row["user_id"] in self._users and row["role"] != INVITED:
                self._members.setdefault(row["user_id"], {})[row["company_id"]] = company
                self._people.setdefault(row["company_id"], set()).add(row["user_id"])

    def principals(self, keys: Iterable[dict[str, Any]]) -> dict[str, Principal]:
        """Build the principal of each key that is valid, by its digest.

        A key of a user inside a company is valid as long as the user is a member there.
        """
        now = time.time()
        found: dict[str, Principal] = {}
        for key in keys:
            user_id, company_id = key["user_id"], key["company_id"]
            lapsed = key["expires_at"] is not None and key["expires_at"] <= now
            if key["revoked_at"] is not None or lapsed or (user_id and user_id not in self._users):
                continue
            if user_id and company_id and company_id not in self._members.get(user_id, {}):
                continue
            everyone = key["role"] == "admin"
            people: Container[str] = self._people.get(company_id, ())
            reached = self._users if everyone else people
            found[key["digest"]] = _principal(key, self._companies, self._members, reached)
        return found


def with_keys(rows: Rows, changed: Iterable[dict[str, Any]]) -> Rows:
    """Return the rows with some keys in the place of what was there of them."""
    new = {row["key_id"]: row for row in changed}
    kept = [row for row in rows["api_keys"] if row["key_id"] not in new]
    return {**rows, "api_keys": [*kept, *new.values()]}


def _principal(
    key: dict[str, Any],
    known: dict[str, Company],
    members: dict[str, dict[str, Company]],
    people: Container[str],
) -> Principal:
    user_id, company_id = key["user_id"], key["company_id"]
    mine = members.get(user_id, {}) if user_id else {}
    if key["role"] == "admin":
        mine = known
    elif company_id:
        mine = {company_id: known[company_id]} if company_id in known else {}
    return Principal(
        key_id=key["key_id"],
        kind=key["kind"],
        role=key["role"],
        user_id=user_id,
        companies=mine,
        scopes=frozenset(key["scopes"]),
        expires_at=key["expires_at"] or float("inf"),
        people=people,
        bound_to=company_id,
        limits=_limits(key.get("limits")),
    )


def _limits(given: Mapping[str, Any] | None) -> KeyLimits:
    if not given:
        return NO_LIMITS
    return KeyLimits(
        given.get("requests_per_minute"),
        given.get("tokens_per_minute"),
        frozenset(given.get("models") or ()),
    )


def companies(rows: Rows) -> dict[str, Company]:
    """Build the companies that were not deleted."""
    found: dict[str, Company] = {}
    for row in rows.get("companies", ()):
        if row["deleted_at"] is not None:
            continue
        facts = {"company_name": row["name"], "industry": row["industry"], **row["facts"]}
        found[row["company_id"]] = Company(
            row["company_id"],
            row["allow_external"],
            bool(row.get("mask_external")),
            {name: value for name, value in facts.items() if value not in (None, "")},
        )
    return found


def consents(rows: Rows) -> dict[Subject, Consent]:
    """Build the newest word of every company and user on every purpose."""
    return {
        Subject(row["company_id"], row["user_id"], row["purpose"]): Consent(
            row["granted"], row["consent_id"]
        )
        for row in rows["consents"]
    }


def budgets(rows: Rows) -> Budgets:
    """Build the budgets of every key, company and user."""
    return Budgets(
        Budget(row["subject"], row["period"], row["max_tokens"], row["max_cost_microusd"])
        for row in rows.get("budgets", ())
    )


def active_prompts(rows: Rows) -> dict[str, str]:
    """Build the active system prompt of each tier."""
    return {row["tier"]: row["text"] for row in rows["prompts"] if row["active"]}


def sealed_secrets(rows: Rows) -> dict[str, bytes]:
    """Return the secrets that admins entered, still sealed."""
    return {row["name"]: base64.b64decode(row["sealed"]) for row in rows.get("sealed_secrets", ())}


def entered_upstreams(rows: Rows) -> list[dict[str, Any]]:
    """Return the upstreams that admins entered and left active."""
    return [row for row in rows.get("spaces", ()) if row["is_active"]]
