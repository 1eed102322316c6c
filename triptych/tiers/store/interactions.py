"""Read the record of requests: pages, one request with its attempts, sums over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Integer, and_, case, cast, func, or_, select

from triptych.errors import NotFound
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import Database, Scope, across

LISTED = (
    "request_id", "created_at", "company_id", "user_id", "tier_asked", "tier_served", "provider",
    "upstream", "model", "outcome", "status", "error_code", "reason", "fallback_reason",
    "attempts", "input_tokens", "output_tokens", "tokens_source", "cost_microusd", "latency_s",
    "ttft_s", "cached",
)  # fmt: skip
FILTERS = (
    "company_id", "user_id", "key_id", "tier_asked", "tier_served", "provider", "upstream",
    "outcome", "error_code", "conversation_id", "feature",
)  # fmt: skip
GROUPS = ("tier_served", "provider", "upstream", "outcome", "company_id", "key_id", "feature")


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
        statement = statement.where(
            or_(
                r.created_at < created_at,
                and_(r.created_at == created_at, r.request_id < request_id),
            )
        )
    async with database.read(scope) as connection:
        return await connection.all(statement.limit(limit))


async def latest(
    database: Database, amount: int, scope: Scope | None = None
) -> list[dict[str, Any]]:
    """Return the latest requests, newest first."""
    return await page(database, scope or across("an operator reads the log"), limit=amount)


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


async def summary(
    database: Database,
    scope: Scope,
    *,
    since: float,
    until: float,
    group_by: str | None = None,
    bucket_s: int | None = None,
) -> list[dict[str, Any]]:
    """Sum requests, failures, tokens, cost and time, by a column and by slices of time."""
    r = t.requests.c
    groups: list[Any] = []
    if bucket_s is not None:
        slice_start = cast(r.created_at / bucket_s, Integer) * bucket_s
        groups.append(slice_start.label("bucket"))
    if group_by is not None:
        groups.append(r[group_by])
    failed = case((r.outcome.in_(("failed", "interrupted")), 1), else_=0)
    fell_back = case((func.coalesce(r.fallback_reason, "") != "", 1), else_=0)
    statement: Any = select(
        *groups,
        func.count().label("requests"),
        func.sum(failed).label("failures"),
        func.sum(fell_back).label("fallbacks"),
        func.sum(cast(r.cached, Integer)).label("cached"),
        func.sum(r.input_tokens).label("input_tokens"),
        func.sum(r.output_tokens).label("output_tokens"),
        func.sum(r.cost_microusd).label("cost_microusd"),
        func.sum(r.reference_microusd).label("reference_microusd"),
        func.avg(r.latency_s).label("latency_mean_s"),
        func.max(r.latency_s).label("latency_max_s"),
        func.avg(r.overhead_s).label("overhead_mean_s"),
    ).select_from(t.requests)
    statement = _filtered(statement, {}, since, until)
    if groups:
        statement = statement.group_by(*groups).order_by(groups[0])
    async with database.read(scope) as connection:
        rows = await connection.all(statement)
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """Sums of whole numbers arrive as decimals from PostgreSQL."""
    if hasattr(value, "as_integer_ratio") and not isinstance(value, (int, float)):
        return int(value) if value == int(value) else float(value)
    return value


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
