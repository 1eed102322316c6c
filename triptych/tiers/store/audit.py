"""Who did what, when, before and after: append-only, each entry chained to the one before by hash.

An entry is written in the transaction of the act itself, so there is neither an act without its
entry nor an entry without its act. Texts of users never enter it.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import orjson
from sqlalchemy import select, text

from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, Scope, across

_START = "0" * 64
_LOCK = 7871
_PAGE = 1000


async def append(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    before: Any = None,
    after: Any = None,
    company_id: str | None = None,
) -> int:
    """Write one entry within the caller's transaction.

    Returns: its sequence number.
    """
    # The chain is one line for everybody, whatever the caller's own scope is.
    chain = Connection(connection.raw, across("the audit chain is one for everybody"))
    if connection.raw.dialect.name == "postgresql":
        await connection.raw.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    last = await chain.first(
        select(t.audit.c.sequence, t.audit.c.hash).order_by(t.audit.c.sequence.desc()).limit(1)
    )
    entry = {
        "sequence": last["sequence"] + 1 if last else 1,
        "created_at": time.time(),
        "actor": actor,
        "company_id": company_id,
        "action": action,
        "subject": subject,
        "before": before,
        "after": after,
        "previous_hash": last["hash"] if last else _START,
    }
    await chain.execute(t.audit.insert(), {**entry, "hash": digest(entry)})
    return int(entry["sequence"])


def digest(entry: dict[str, Any]) -> str:
    """Hash an entry together with the hash of the one before."""
    content = {name: value for name, value in entry.items() if name != "hash"}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def verify(database: Database) -> tuple[int, int | None]:
    """Walk the whole chain.

    Returns: how many entries are sound, and the number of the first one that is not.
    """
    previous, sound, expected = _START, 0, 1
    async with database.read(across("the audit chain is verified whole")) as connection:
        while True:
            rows = await connection.all(
                select(t.audit)
                .where(t.audit.c.sequence >= expected)
                .order_by(t.audit.c.sequence)
                .limit(_PAGE)
            )
            for row in rows:
                broken = row["sequence"] != expected or row["previous_hash"] != previous
                if broken or row["hash"] != digest(row):
                    return sound, expected
                previous, sound, expected = row["hash"], sound + 1, expected + 1
            if len(rows) < _PAGE:
                return sound, None


async def entries(
    database: Database,
    scope: Scope,
    *,
    subject: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Return the newest entries, older than a sequence number for the next page.

    A subject that ends with `*` stands for every one that begins so.
    """
    statement = select(t.audit).order_by(t.audit.c.sequence.desc()).limit(limit)
    if subject is not None and subject.endswith("*"):
        statement = statement.where(t.audit.c.subject.startswith(subject[:-1], autoescape=True))
    elif subject is not None:
        statement = statement.where(t.audit.c.subject == subject)
    if before is not None:
        statement = statement.where(t.audit.c.sequence < before)
    async with database.read(scope) as connection:
        return await connection.all(statement)
