"""Change flags: validated whole, optimistically locked, audited, undone with one call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from sqlalchemy import delete, select

from triptych.errors import EditConflict, InvalidQuery, NotFound
from triptych.tiers.rules.flags import (
    REGISTRY,
    FlagProvider,
    FlagSet,
    Value,
    default_definitions,
    definition,
    spec_of,
    variant_of,
)
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, across
from triptych.tiers.store.settings import raise_version

OverrideScope = Literal["user", "company"]
_SCOPE = across("flags belong to no company")


async def set_flag(
    database: Database,
    key: str,
    value: Value,
    *,
    actor: str,
    targeting: Any = None,
    expected_version: int | None = None,
) -> int:
    """Set one flag for everybody, with or without a targeting rule above its default.

    Turning a flag off turns off what hangs on it, in the same transaction.

    Returns: the flag's new version.
    Raises: NotFound, InvalidQuery, EditConflict when it was changed since it was read.
    """
    new = {key: definition(value, spec_of(key), targeting)}
    if value is False:
        new |= {
            child: definition(False, spec) for child, spec in REGISTRY.items() if spec.parent == key
        }
    expected = {} if expected_version is None else {key: expected_version}
    versions = await _write(database, new, actor=actor, action="flags.set", expected=expected)
    return versions[key]


async def replace_all(
    database: Database, definitions: Mapping[str, Any], *, actor: str
) -> dict[str, int]:
    """Take a whole set of flagd definitions, or refuse it whole and keep the old one.

    Raises: NotFound, InvalidQuery.
    """
    new = {key: checked(key, value) for key, value in definitions.items()}
    return await _write(database, new, actor=actor, action="flags.replace", expected={})


def checked(key: str, value: Any) -> dict[str, Any]:
    """Check one flagd definition against the registry.

    Raises: NotFound, InvalidQuery.
    """
    spec = spec_of(key)
    if not isinstance(value, dict):
        raise InvalidQuery(f"{key} is no flag definition", hint="see flagd.dev/reference")
    whole = definition(spec.default, spec) | {
        name: value[name] for name in ("state", "defaultVariant", "targeting") if name in value
    }
    variants = value.get("variants", whole["variants"])
    # compared as JSON, where 1 is not true
    if orjson.dumps(variants) != orjson.dumps(whole["variants"]):
        raise InvalidQuery(f"{key} has other variants", hint=f"{whole['variants']}")
    if whole["defaultVariant"] not in whole["variants"]:
        raise InvalidQuery(
            f"{key}: {whole['defaultVariant']!r} is no variant",
            hint=f"one of {', '.join(whole['variants'])}",
        )
    return whole


async def _write(
    database: Database,
    new: Mapping[str, Any],
    *,
    actor: str,
    action: str,
    expected: Mapping[str, int],
) -> dict[str, int]:
    FlagProvider().load(FlagSet(0, default_definitions() | dict(new)))
    defaults = default_definitions()
    versions: dict[str, int] = {}
    before: dict[str, Any] = {}
    async with database.write(_SCOPE) as connection:
        rows = {
            row["key"]: row
            for row in await connection.all(select(t.flags).where(t.flags.c.key.in_(list(new))))
        }
        for key, value in sorted(new.items()):
            row = rows.get(key)
            version = int(row["version"]) if row else 0
            if expected.get(key, version) != version:
                raise EditConflict(
                    f"{key} is at version {version}, not {expected[key]}",
                    hint="read it again and repeat the change",
                )
            before[key] = row["definition"] if row else defaults[key]
            versions[key] = version + 1
            await _put(connection, key, value, version, actor)
        await audit.append(
            connection,
            actor=actor,
            action=action,
            subject=f"flags/{'+'.join(sorted(new))}"[:160],
            before=before,
            after=dict(new),
        )
        await raise_version(connection, "flags")
    return versions


async def _put(connection: Connection, key: str, value: Any, version: int, actor: str) -> None:
    values = {
        "key": key,
        "definition": value,
        "version": version + 1,
        "updated_at": time.time(),
        "updated_by": actor,
    }
    if version == 0:
        await connection.execute(t.flags.insert(), values)
        return
    done = await connection.execute(
        t.flags.update().where(t.flags.c.key == key, t.flags.c.version == version).values(**values)
    )
    if done.rowcount == 0:
        raise EditConflict(f"{key} was changed in this moment", hint="read it again")


async def set_override(
    database: Database,
    key: str,
    scope: OverrideScope,
    subject_id: str,
    value: Value | None,
    *,
    actor: str,
) -> None:
    """Set a flag for one user or one company; None clears it, and the global value is back.

    Raises: NotFound, InvalidQuery.
    """
    spec = spec_of(key)
    variant = None if value is None else variant_of(spec, value)
    o = t.flag_overrides.c
    here = (o.key == key, o.scope == scope, o.subject_id == subject_id)
    async with database.write(_SCOPE) as connection:
        row = await connection.first(select(t.flag_overrides).where(*here))
        await connection.execute(delete(t.flag_overrides).where(*here))
        if variant is not None:
            await connection.execute(
                t.flag_overrides.insert(),
                {
                    "key": key,
                    "scope": scope,
                    "subject_id": subject_id,
                    "variant": variant,
                    "updated_at": time.time(),
                    "updated_by": actor,
                },
            )
        await audit.append(
            connection,
            actor=actor,
            action="flags.override",
            subject=f"flags/{key}/{scope}/{subject_id}"[:160],
            before=row["variant"] if row else None,
            after=variant,
            company_id=subject_id if scope == "company" else None,
        )
        await raise_version(connection, "flags")


async def revert(database: Database, sequence: int, *, actor: str) -> dict[str, int]:
    """Undo one audited change of flags, as long as the same flags were not changed since.

    Raises: NotFound, EditConflict.
    """
    async with database.read(_SCOPE) as connection:
        entry = await connection.first(select(t.audit).where(t.audit.c.sequence == sequence))
        rows = await connection.all(select(t.flags))
    if entry is None or entry["action"] not in ("flags.set", "flags.replace", "flags.revert"):
        raise NotFound(f"audit entry {sequence} is no change of flags")
    current = default_definitions() | {row["key"]: row["definition"] for row in rows}
    moved = [key for key, value in entry["after"].items() if current[key] != value]
    if moved:
        raise EditConflict(
            f"{', '.join(moved)} changed again since entry {sequence}",
            hint="revert the newer change first",
        )
    versions = {row["key"]: int(row["version"]) for row in rows}
    return await _write(
        database,
        entry["before"],
        actor=actor,
        action="flags.revert",
        expected={key: versions.get(key, 0) for key in entry["before"]},
    )


async def listed(database: Database) -> list[dict[str, Any]]:
    """Return every flag with its definition, version and overrides."""
    async with database.read(_SCOPE) as connection:
        rows = {row["key"]: row for row in await connection.all(select(t.flags))}
        overrides = await connection.all(select(t.flag_overrides))
    defaults = default_definitions()
    return [
        {
            "key": key,
            "description": spec.description,
            "originals": list(spec.originals),
            "default": spec.default,
            "definition": rows[key]["definition"] if key in rows else defaults[key],
            "version": rows[key]["version"] if key in rows else 0,
            "updated_at": rows[key]["updated_at"] if key in rows else None,
            "updated_by": rows[key]["updated_by"] if key in rows else None,
            "overrides": [
                {name: row[name] for name in ("scope", "subject_id", "variant")}
                for row in overrides
                if row["key"] == key
            ],
        }
        for key, spec in REGISTRY.items()
    ]


def rollout(percentage: float, *, by: Literal["user", "company"] = "user") -> dict[str, Any]:
    """Write the targeting rule that turns a switch on for a share of users or companies.

    Sticky, independent per flag, and monotone: who is in at 10 % is in at 20 %. Who has no id
    stays out.
    """
    if not 0 <= percentage <= 100:
        raise InvalidQuery(f"{percentage} % is no share", param="percentage", hint="0 to 100")
    subject = "targetingKey" if by == "user" else "company_id"
    on = round(percentage * 100)
    share = [
        {"cat": [{"var": "$flagd.flagKey"}, {"var": subject}]},
        ["on", on],
        ["off", 10_000 - on],
    ]
    return {"if": [{"var": subject}, {"fractional": share}, "off"]}
