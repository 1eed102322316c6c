"""Sums of requests per minute and per hour, kept with every batch of records.

A page that shows the last hour reads some hundred rows here instead of every request of it. Left
out: the requests themselves (`interactions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from triptych.tiers.store.database import Connection, Database, Scope
from triptych.tiers.store.schema import TENANT, metadata

SPANS_S = (60, 3600)
GROUPS = ("company_id", "tier_served", "provider", "upstream", "outcome", "feature", "node")
#: Longer stretches than this are summed from hours.
_MINUTES_UP_TO_S = 6 * 3600.0
_COUNTED = (
    "requests", "failures", "fallbacks", "cached", "input_tokens", "output_tokens",
    "cost_microusd", "reference_microusd", "timed",
)  # fmt: skip
_TIMED = ("latency_s", "overhead_s")

table = Table(
    "usage",
    metadata,
    Column("span_s", Integer, primary_key=True),
    Column("start", Integer, primary_key=True),
    Column("company_id", String(64), primary_key=True),
    Column("tier_served", String(16), primary_key=True),
    Column("provider", String(16), primary_key=True),
    Column("upstream", String(64), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("feature", String(64), primary_key=True),
    Column("node", String(64), primary_key=True, server_default=""),
    *(Column(name, BigInteger, nullable=False) for name in _COUNTED),
    Column("latency_s", Float, nullable=False),
    Column("overhead_s", Float, nullable=False),
    Column("latency_max_s", Float, nullable=False),
    info=TENANT,
)
"""One row for each minute and each hour since 1970 and each combination; nothing is an empty
text, so that it can be part of the key. Each node writes rows of its own: none waits for another's
lock, however many there are."""


async def count(connection: Connection, records: Iterable[Mapping[str, Any]]) -> None:
    """Add records to the sums; each record must be added once."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    minute_s, hour_s = SPANS_S
    for record in records:
        start = int(record["created_at"] // minute_s) * minute_s
        _add(sums, (minute_s, start, *[record.get(name) or "" for name in GROUPS]), _values(record))
    for (_, start, *names), row in list(sums.items()):
        _add(sums, (hour_s, start // hour_s * hour_s, *names), dict(row))
    # in the order of their keys, so that two writers never wait for each other in a circle
    rows = [
        dict(zip(("span_s", "start", *GROUPS), key, strict=True)) | row
        for key, row in sorted(sums.items(), key=lambda item: item[0])
    ]
    if rows:
        await connection.execute(_add_up(connection.raw.dialect.name), rows)


def _add(sums: dict[tuple[Any, ...], dict[str, Any]], key: Any, values: dict[str, Any]) -> None:
    row = sums.get(key)
    if row is None:
        sums[key] = values
        return
    longest_s = max(row["latency_max_s"], values["latency_max_s"])
    for name, value in values.items():
        row[name] += value
    row["latency_max_s"] = longest_s


def _values(record: Mapping[str, Any]) -> dict[str, Any]:
    latency_s = record.get("latency_s")
    return {
        "requests": 1,
        "failures": int(record["outcome"] in ("failed", "interrupted")),
        "fallbacks": int(bool(record.get("fallback_reason"))),
        "cached": int(bool(record.get("cached"))),
        **{name: record.get(name) or 0 for name in _COUNTED[4:8]},
        "timed": int(latency_s is not None),
        "latency_s": latency_s or 0.0,
        "overhead_s": record.get("overhead_s") or 0.0,
        "latency_max_s": latency_s or 0.0,
    }


def _add_up(dialect: str) -> Any:
    found = _STATEMENTS.get(dialect)
    if found is None:
        insert: Any = (sqlite if dialect == "sqlite" else postgresql).insert(table)
        new, old = insert.excluded, table.c
        larger = case(
            (new.latency_max_s > old.latency_max_s, new.latency_max_s), else_=old.latency_max_s
        )
        found = insert.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={n: old[n] + new[n] for n in (*_COUNTED, *_TIMED)} | {"latency_max_s": larger},
        )
        _STATEMENTS[dialect] = found
    return found


_STATEMENTS: dict[str, Any] = {}


def span_of(since: float, until: float, bucket_s: int | None = None) -> int:
    """Return how long the spans are from which a stretch of time is summed, in seconds."""
    hours = until - since > _MINUTES_UP_TO_S and (bucket_s or 3600) % 3600 == 0
    return SPANS_S[1] if hours else SPANS_S[0]


async def summary(
    database: Database,
    scope: Scope,
    *,
    since: float,
    until: float,
    group_by: Sequence[str] = (),
    bucket_s: int | None = None,
) -> list[dict[str, Any]]:
    """Sum requests, failures, tokens, cost and time, by columns and by slices of time.

    The stretch begins with the whole minute or hour in which `since` lies.
    """
    c = table.c
    span_s = span_of(since, until, bucket_s)
    groups: list[Any] = [] if bucket_s is None else [(c.start - c.start % bucket_s).label("bucket")]
    groups += [func.nullif(c[name], "").label(name) for name in group_by]
    statement: Any = select(
        *groups,
        *(func.coalesce(func.sum(c[name]), 0).label(name) for name in _COUNTED),
        *(func.sum(c[name]).label(name) for name in _TIMED),
        func.max(c.latency_max_s).label("latency_max_s"),
    ).where(c.span_s == span_s, c.start >= since // span_s * span_s, c.start < until)
    if groups:
        statement = statement.group_by(*groups).order_by(groups[0])
    async with database.read(scope) as connection:
        rows = await connection.all(statement)
    return [_told(row) for row in rows]


def _told(row: dict[str, Any]) -> dict[str, Any]:
    # sums of whole numbers arrive as decimals from PostgreSQL
    told = row | {name: int(row[name]) for name in _COUNTED}
    timed, latency_s, overhead_s = (told.pop(name) for name in ("timed", *_TIMED))
    told["latency_mean_s"] = latency_s / timed if timed else None
    told["overhead_mean_s"] = overhead_s / timed if timed else None
    return told


async def disown(connection: Connection, company_id: str) -> int:
    """Move a company's sums to those without a company, so that the whole stays true without it.

    Returns: how many rows.
    """
    rows = await connection.all(select(table).where(table.c.company_id == company_id))
    if rows:
        nobodys = sorted(({**row, "company_id": ""} for row in rows), key=_key)
        await connection.execute(_add_up(connection.raw.dialect.name), nobodys)
        await connection.execute(table.delete().where(table.c.company_id == company_id))
    return len(rows)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["span_s"], row["start"], *(row[name] for name in GROUPS))
