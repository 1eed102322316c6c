"""Read the record of requests: pages of it, and one request with its attempts.

Left out: sums over time (`usage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import or_, select

from triptych.errors import NotFound
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, Scope, across

LISTED = (
    "request_id", "created_at", "company_id", "user_id", "key_id", "tier_asked", "tier_served",
    "provider", "upstream", "model", "outcome", "status", "error_code", "reason",
    "fallback_reason", "flags", "attempts", "input_tokens", "output_tokens", "tokens_source",
    "cost_microusd", "latency_s", "ttft_s", "cached",
)  # fmt: skip
FILTERS = (
    "company_id", "user_id", "key_id", "tier_asked", "tier_served", "provider", "upstream",
    "outcome", "error_code", "conversation_id", "feature",
)  # fmt: skip


async def page(
    database: Database,
    scope: Scope,
    *,
    filters: Mapping[str, str] | None = None,
    since: float | None = None,
    until: float | None = None,
    after: tuple[float, str] | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Return requests newest first; `after` is the last row of the page before.

    Pages are found by key and never counted through, so the millionth is as quick as the first.
    """
    r = t.requests.c
    statement: Any = select(*(r[name] for name in LISTED)).order_by(
        r.created_at.desc(), r.request_id.desc()
    )
    statement = _filtered(statement, filters or {}, since, until)
    if after is not None:
        created_at, request_id = after
        # Said so that an index leads there: the bound first, the tie after.
        statement = statement.where(
            r.created_at <= created_at,
            or_(r.created_at < created_at, r.request_id < request_id),
        )
    async with database.read(scope) as connection:
        return await connection.all(statement.limit(limit))


async def latest(
    database: Database, amount: int, scope: Scope | None = None, *, provider: str | None = None
) -> list[dict[str, Any]]:
    """Return the latest requests, newest first."""
    filters = {"provider": provider} if provider else {}
    scope = scope or across("an operator reads the log")
    return await page(database, scope, filters=filters, limit=amount)


async def decided(database: Database, *, since: float, limit: int = 2000) -> list[dict[str, Any]]:
    """Return what was decided about the latest requests, newest first."""
    r = t.requests.c
    names = (
        "request_id", "company_id", "user_id", "key_id", "feature", "tier_asked", "model_asked",
        "tier_served",
    )  # fmt: skip
    statement = (
        select(*(r[name] for name in names))
        .where(r.created_at >= since)
        .order_by(r.created_at.desc())
        .limit(limit)
    )
    async with database.read(across("a change of flags is for everybody")) as connection:
        return await connection.all(statement)


async def one(database: Database, scope: Scope, request_id: str) -> dict[str, Any]:
    """Return one request whole, with its attempts in order.

    Raises: NotFound.
    """
    async with database.read(scope) as connection:
        row = await connection.first(
            select(t.requests).where(t.requests.c.request_id == request_id)
        )
        if row is None:
            raise NotFound("there is no such request", code="request_not_found")
        tries = await connection.all(
            select(t.attempts)
            .where(t.attempts.c.request_id == request_id)
            .order_by(t.attempts.c.number)
        )
    return {**row, "tries": tries}


def _filtered(
    statement: Any,
    filters: Mapping[str, str],
    since: float | None,
    until: float | None,
) -> Any:
    r = t.requests.c
    for name, value in filters.items():
        statement = statement.where(r[name] == value)
    if since is not None:
        statement = statement.where(r.created_at >= since)
    if until is not None:
        statement = statement.where(r.created_at < until)
    return statement
