"""Change flags: validated whole, versioned, audited, and undone with one call."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select

from triptych.errors import EditConflict
from triptych.tiers.flags import (
    FlagProvider,
    FlagSet,
    Value,
    default_definitions,
    definition,
    spec_of,
)
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.settings import raise_version

_SCOPE = across("flags belong to nobody")


async def set_flag(
    database: Database,
    key: str,
    value: Value,
    *,
    actor: str,
    targeting: Any = None,
    expected_version: int | None = None,
) -> int:
    """Set one flag for everybody, or by a targeting rule.

    Returns: the flag's new version.
    Raises: NotFound, InvalidQuery, EditConflict when somebody changed it since it was read.
    """
    spec = spec_of(key)
    new = definition(value, spec, targeting)
    FlagProvider().load(FlagSet(0, default_definitions() | {key: new}))
    async with database.write(_SCOPE) as connection:
        row = await connection.first(select(t.flags).where(t.flags.c.key == key))
        version = int(row["version"]) if row else 0
        if expected_version is not None and expected_version != version:
            raise EditConflict(
                f"{key} is at version {version}, not {expected_version}",
                hint="read it again and repeat the change",
            )
        values = {
            "key": key,
            "definition": new,
            "version": version + 1,
            "updated_at": time.time(),
            "updated_by": actor,
        }
        if row is None:
            await connection.execute(t.flags.insert(), values)
        else:
            await connection.execute(t.flags.update().where(t.flags.c.key == key).values(**values))
        await raise_version(connection, "flags")
    return version + 1
