"""Read the record of requests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, Scope, across

_LISTED = (
    "request_id",
    "created_at",
    "tier_asked",
    "tier_served",
    "provider",
    "upstream",
    "model",
    "outcome",
    "status",
    "fallback_reason",
    "attempts",
    "input_tokens",
    "output_tokens",
    "latency_s",
)


async def latest(
    database: Database, amount: int, scope: Scope | None = None
) -> list[dict[str, Any]]:
    """Return the latest requests, newest first."""
    r = t.requests.c
    statement = (
        select(*(r[name] for name in _LISTED))
        .order_by(r.created_at.desc(), r.request_id)
        .limit(amount)
    )
    async with database.read(scope or across("an operator reads the log")) as connection:
        return await connection.all(statement)
