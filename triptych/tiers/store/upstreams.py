"""Upstreams, system prompts and models as admins enter them: versioned, audited."""

from __future__ import annotations

import secrets
import time
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from triptych.errors import EditConflict, NotFound
from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, Scope, across
from triptych.tiers.store.settings import raise_version

_SCOPE = across("upstreams and prompts are entered by admins")


async def save_upstream(
    database: Database,
    name: str,
    values: dict[str, Any],
    *,
    actor: str,
    expected_version: int | None = None,
) -> int:
    """Enter or change an upstream.

    Returns: its new version.
    Raises: EditConflict.
    """
    async with database.write(_SCOPE) as connection:
        row = await connection.first(select(t.spaces).where(t.spaces.c.name == name))
        version = int(row["version"]) if row else 0
        if expected_version is not None and expected_version != version:
            raise EditConflict(
                f"{name} is at version {version}, not {expected_version}",
                hint="read it again and repeat the change",
            )
        new = {
            **values,
            "name": name,
            "version": version + 1,
            "updated_at": time.time(),
            "updated_by": actor,
        }
        if row is None:
            await connection.execute(t.spaces.insert(), new)
        else:
            await connection.execute(update(t.spaces).where(t.spaces.c.name == name).values(**new))
        await audit.append(
            connection,
            actor=actor,
            action="upstreams.save",
            subject=f"upstreams/{name}",
            before=_shown(row),
            after=_shown(new),
            company_id=values.get("company_id"),
        )
        await raise_version(connection, "upstreams")
    return version + 1


async def remove_upstream(database: Database, name: str, *, actor: str) -> None:
    """Take an entered upstream away.

    Raises: NotFound.
    """
    async with database.write(_SCOPE) as connection:
        row = await connection.first(select(t.spaces).where(t.spaces.c.name == name))
        if row is None:
            raise NotFound(f"no upstream {name!r} was entered")
        await connection.execute(t.spaces.delete().where(t.spaces.c.name == name))
        await audit.append(
            connection,
            actor=actor,
            action="upstreams.remove",
            subject=f"upstreams/{name}",
            before=_shown(row),
            company_id=row["company_id"],
        )
        await raise_version(connection, "upstreams")


def _shown(row: dict[str, Any] | None) -> dict[str, Any] | None:
    hidden = ("updated_at", "updated_by")
    return None if row is None else {k: v for k, v in row.items() if k not in hidden}


async def entered(database: Database) -> list[dict[str, Any]]:
    """List the upstreams that admins entered, active or not."""
    async with database.read(_SCOPE) as connection:
        return await connection.all(select(t.spaces).order_by(t.spaces.c.name))


async def add_prompt(database: Database, tier: str, text: str, *, actor: str) -> int:
    """Write a new version of a tier's system prompt and make it the active one.

    Returns: the version.
    """
    async with database.write(_SCOPE) as connection:
        row = await connection.first(
            select(func.max(t.prompts.c.version).label("top")).where(t.prompts.c.tier == tier)
        )
        version = int((row or {}).get("top") or 0) + 1
        await connection.execute(
            update(t.prompts).where(t.prompts.c.tier == tier).values(active=False)
        )
        await connection.execute(
            t.prompts.insert(),
            {
                "tier": tier,
                "version": version,
                "text": text,
                "active": True,
                "created_at": time.time(),
                "created_by": actor,
            },
        )
        await audit.append(
            connection,
            actor=actor,
            action="prompts.add",
            subject=f"prompts/{tier}",
            after={"version": version, "characters": len(text)},
        )
        await raise_version(connection, "prompts")
    return version


async def activate_prompt(database: Database, tier: str, version: int, *, actor: str) -> None:
    """Make an earlier version the active one; version 0 stands for none.

    Raises: NotFound.
    """
    p = t.prompts.c
    async with database.write(_SCOPE) as connection:
        found = await connection.first(select(p.tier).where(p.tier == tier, p.version == version))
        if version and found is None:
            raise NotFound(f"there is no version {version} of the prompt of {tier}")
        await connection.execute(
            update(t.prompts).where(p.tier == tier).values(active=p.version == version)
        )
        await audit.append(
            connection,
            actor=actor,
            action="prompts.activate",
            subject=f"prompts/{tier}",
            after={"version": version},
        )
        await raise_version(connection, "prompts")


async def list_prompts(database: Database) -> list[dict[str, Any]]:
    """List every version of every tier's prompt."""
    async with database.read(_SCOPE) as connection:
        return await connection.all(
            select(t.prompts).order_by(t.prompts.c.tier, t.prompts.c.version)
        )


async def register_model(
    database: Database, values: dict[str, Any], scope: Scope, *, actor: str
) -> str:
    """Enter a model with its lineage; what was registered is never overwritten.

    Returns: its id.
    Raises: EditConflict when this revision is registered already.
    """
    model_id = "mdl_" + secrets.token_hex(10)
    now = time.time()
    try:
        async with database.write(scope) as connection:
            row = {**values, "model_id": model_id, "created_at": now, "updated_at": now}
            await connection.execute(t.model_registry.insert(), row)
            await audit.append(
                connection,
                actor=actor,
                action="models.register",
                subject=f"models/{model_id}",
                after={k: values.get(k) for k in ("name", "tier", "hf_model_id", "revision")},
                company_id=values.get("company_id"),
            )
    except IntegrityError as error:
        raise EditConflict("this revision of this model is registered already") from error
    return model_id


async def list_models(database: Database, scope: Scope) -> list[dict[str, Any]]:
    """List registered models, newest first."""
    async with database.read(scope) as connection:
        return await connection.all(
            select(t.model_registry).order_by(t.model_registry.c.created_at.desc())
        )
