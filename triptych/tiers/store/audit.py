"""Who did what, when, before and after: append-only, each entry chained to the one before by hash.

An entry is written in the transaction of the act itself, so there is neither an act without its
entry nor an entry without its act. Texts of users never enter it; what a company says of itself
enters as a salted hash. Hashes are keyed with the key of the gateway's secrets, so a chain cannot
be rewritten from inside the database; `anchor` keeps the newest one outside it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select, text

from triptych.config import environment
from triptych.durable import write_atomic
from triptych.secrets import Vault
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, Scope, across

_START = "0" * 64
_LOCK = 7871
_PAGE = 1000
_KEYED = "k"
_KEY_ID_CHARS = 7
_FORMAT = 1
KEY_VARIABLE = "TRIPTYCH_SECRETS_KEY"

logger = logging.getLogger("triptych.gateway")


@dataclass(frozen=True)
class Verified:
    """What a walk over the whole chain found."""

    sound: int
    broken_at: int | None
    other_keys: int = 0
    """Entries of the chain that were written with another key than this node's."""
    last: tuple[int, str] = (0, _START)


@dataclass(frozen=True)
class Anchor:
    """The newest entry that was known outside the database, and the first with a keyed hash."""

    sequence: int
    hash: str
    keyed_from: int
    format: int = _FORMAT


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
    await chain.execute(t.audit.insert(), {**entry, "hash": _keyed(digest(entry))})
    return int(entry["sequence"])


def digest(entry: dict[str, Any]) -> str:
    """Hash an entry together with the hash of the one before."""
    content = {name: value for name, value in entry.items() if name != "hash"}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def hashed(value: Any) -> Any:
    """Return what proves a value to one who has it, and tells it to no one else; None stays."""
    if value is None:
        return None
    salt = secrets.token_hex(8)
    content = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return f"sha256:{salt}:{hashlib.sha256(salt.encode() + content).hexdigest()}"


@lru_cache(maxsize=16)
def _vault(home: Path) -> Vault:
    return Vault(home / "gateway" / "secrets-key", KEY_VARIABLE)


def _sign(message: str) -> str:
    return _vault(environment.home()).sign(message.encode()).hex()


def _keyed(plain: str) -> str:
    """Return a hash that only the holder of the key can make, as long as a plain one."""
    key_id = _sign("which key the audit is chained with")[:_KEY_ID_CHARS]
    return f"{_KEYED}{key_id}{_sign(plain)}"[: len(plain)]


async def verify(database: Database, home: Path | None = None) -> tuple[int, int | None]:
    """Walk the whole chain, and compare it with the anchor outside.

    Returns: how many entries are sound, and the number of the first one that is not.
    """
    found = await verified(database, home)
    return found.sound, found.broken_at


async def verified(database: Database, home: Path | None = None) -> Verified:
    """Walk the whole chain, and compare it with the anchor outside."""
    anchor = read_anchor(home or environment.home())
    mine = _keyed(_START)[: 1 + _KEY_ID_CHARS]
    previous, sound, expected, others = _START, 0, 1, 0
    async with database.read(across("the audit chain is verified whole")) as connection:
        while True:
            rows = await connection.all(
                select(t.audit)
                .where(t.audit.c.sequence >= expected)
                .order_by(t.audit.c.sequence)
                .limit(_PAGE)
            )
            for row in rows:
                plain, found = digest(row), row["hash"]
                broken = row["sequence"] != expected or row["previous_hash"] != previous
                if not found.startswith(_KEYED):
                    broken |= found != plain or expected >= anchor.keyed_from
                elif found.startswith(mine):
                    broken |= found != _keyed(plain)
                else:
                    others += 1
                if expected == anchor.sequence:
                    broken |= found != anchor.hash
                if broken:
                    return Verified(sound, expected, others)
                previous, sound, expected = found, sound + 1, expected + 1
            if len(rows) < _PAGE:
                break
    cut = anchor.sequence >= expected
    return Verified(sound, expected if cut else None, others, (expected - 1, previous))


def _anchor_file(home: Path) -> Path:
    return home / "gateway" / "audit-anchor.json"


def read_anchor(home: Path) -> Anchor:
    """Return the anchor kept in a home, or one that demands nothing."""
    try:
        return Anchor(**orjson.loads(_anchor_file(home).read_bytes()))
    except (OSError, TypeError, orjson.JSONDecodeError):
        return Anchor(0, _START, 2**62)


async def anchor(database: Database, home: Path) -> bool:
    """Keep the newest entry outside the database, in a file and in the log.

    Returns: False when the chain no longer reaches the anchor before; that one is kept then.
    """
    before = read_anchor(home)
    a = t.audit.c
    async with database.read(across("the audit chain is anchored whole")) as connection:
        last = await connection.first(
            select(a.sequence, a.hash).order_by(a.sequence.desc()).limit(1)
        )
        there = await connection.first(select(a.hash).where(a.sequence == before.sequence))
        keyed = await connection.first(
            select(a.sequence).where(a.hash.startswith(_KEYED)).order_by(a.sequence).limit(1)
        )
    if before.sequence and (there is None or there["hash"] != before.hash):
        logger.error(
            "the audit was cut or rewritten: entry %d is not the one that was anchored",
            before.sequence,
        )
        return False
    if last is None:
        last = {"sequence": 0, "hash": _START}
    first = keyed["sequence"] if keyed else last["sequence"] + 1
    now = Anchor(last["sequence"], last["hash"], min(before.keyed_from, first))
    if now == before:
        return True
    write_atomic(_anchor_file(home), orjson.dumps(asdict(now)), private=True)
    logger.info("audit anchor: entry %d has the hash %s", now.sequence, now.hash)
    return True


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
