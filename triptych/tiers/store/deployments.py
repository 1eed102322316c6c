"""What really happened to the Spaces: every deployment, and the model that it made answer.

A row says `live` only when the Space itself answered with the revision; who writes it has asked.
With it the model enters the registry, with where it came from, and is the one in use there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import select, update

from triptych.tiers.store import audit
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Connection, Database, across

Status = Literal["live", "failed", "rolled_back"]
_SCOPE = across("Spaces are deployed by operators")
_LOG_CHARACTERS = 20_000
LINEAGE = ("parent_model_id", "dataset_hash", "run_id", "evaluation", "hyperparameters")


@dataclass(frozen=True)
class Deployed:
    """One attempt to make a Space serve a model, and how it ended."""

    deployment_id: str
    space: str
    repo_id: str
    revision: str
    status: Status
    tier: str = "base"
    company_id: str | None = None
    space_url: str | None = None
    log: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)


async def write_down(database: Database, done: Deployed, *, actor: str) -> str:
    """Write a deployment down, once, and the model it is about.

    Returns: the model's id in the registry.
    """
    now = time.time()
    async with database.write(_SCOPE) as connection:
        model_id = await _registered(connection, done, now)
        row = {
            "space": done.space,
            "model_id": model_id,
            "revision": done.revision,
            "status": done.status,
            "log": done.log[-_LOG_CHARACTERS:],
            "updated_at": now,
            "model": f"{done.repo_id}@{done.revision}",
            "actor": actor,
        }
        d = t.deployments.c
        here = d.deployment_id == done.deployment_id
        changed = await connection.execute(update(t.deployments).where(here).values(**row))
        if changed.rowcount == 0:
            new = {"deployment_id": done.deployment_id, "created_at": now, **row}
            await connection.execute(t.deployments.insert(), new)
        if done.status == "live":
            await _now_in_use(connection, done, model_id, now)
        await audit.append(
            connection,
            actor=actor,
            action=f"deployments.{done.status}",
            subject=f"spaces/{done.space}",
            after={"model": row["model"], "deployment_id": done.deployment_id},
            company_id=done.company_id,
        )
    return model_id


async def _registered(connection: Connection, done: Deployed, now: float) -> str:
    """Find the row of this revision, or make it; a company registers each one once."""
    m = t.model_registry.c
    whose = m.company_id == done.company_id
    if done.company_id is None:
        whose = m.company_id.is_(None) & (m.tier == done.tier)
    row = await connection.first(
        select(m.model_id).where(m.name == done.repo_id, m.revision == done.revision, whose)
    )
    if row is not None:
        return str(row["model_id"])
    model_id = "mdl_" + secrets.token_hex(10)
    await connection.execute(
        t.model_registry.insert(),
        {
            "model_id": model_id,
            "name": done.repo_id,
            "tier": done.tier,
            "company_id": done.company_id,
            "hf_model_id": done.repo_id,
            "revision": done.revision,
            **{name: done.lineage.get(name) for name in LINEAGE},
            "is_active": False,
            "is_tainted": False,
            "created_at": now,
            "updated_at": now,
        },
    )
    return model_id


async def _now_in_use(connection: Connection, done: Deployed, model_id: str, now: float) -> None:
    """Mark the model as the one that answers in its Space, and no other there."""
    m = t.model_registry.c
    await connection.execute(
        update(t.model_registry)
        .where(m.hf_space_id == done.space, m.model_id != model_id)
        .values(is_active=False, updated_at=now)
    )
    where = {"hf_space_id": done.space, "hf_space_url": done.space_url}
    await connection.execute(
        update(t.model_registry)
        .where(m.model_id == model_id)
        .values(is_active=True, updated_at=now, **where)
    )


async def listed(
    database: Database, *, space: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """List deployments, newest first."""
    d = t.deployments.c
    statement = select(t.deployments).order_by(d.created_at.desc()).limit(limit)
    if space is not None:
        statement = statement.where(d.space == space)
    async with database.read(_SCOPE) as connection:
        return await connection.all(statement)
