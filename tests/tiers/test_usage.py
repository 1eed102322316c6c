"""Sums of requests are those of the requests, whether kept along the way or made by a migration."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from triptych.tiers.store import migrations, recorder, usage
from triptych.tiers.store.database import Database, across, company

ALL = across("a test looks at everything")
NOW = 1_790_000_000.0


def record(number: int) -> dict[str, Any]:
    failed = number % 7 == 0
    return {
        "request_id": f"req_{number}",
        "created_at": NOW - number * 40,
        "company_id": f"c{number % 3}" if number % 3 else None,
        "user_id": None,
        "key_id": "k",
        "kind": "chat",
        "stream": False,
        "tier_asked": "base",
        "model_asked": "base",
        "tier_served": None if failed else "base",
        "provider": None if failed else ("openai", "local")[number % 2],
        "fallback_reason": "upstream_failed" if number % 5 == 0 else None,
        "outcome": "failed" if failed else "ok",
        "status": 502 if failed else 200,
        "attempts": 1,
        "tokens_source": "upstream",
        "input_tokens": None if failed else number,
        "output_tokens": 2,
        "cost_microusd": 3,
        "latency_s": None if failed else number / 100,
        "cached": number % 11 == 0,
        "truncated_messages": 0,
    }


async def fresh(path: Path) -> Database:
    database = Database(f"sqlite+aiosqlite:///{path}")
    await migrations.upgrade(database)
    return database


async def told(database: Database, **wanted: Any) -> list[dict[str, Any]]:
    rows = await usage.summary(database, ALL, since=0, until=NOW + 1, **wanted)
    return sorted(rows, key=str)


async def test_sums_are_those_of_the_records_and_nothing_counts_twice(tmp_path: Path) -> None:
    records = [record(number) for number in range(300)]
    along = await fresh(tmp_path / "along.db")
    for start in range(0, 300, 70):
        async with along.write(ALL) as connection:
            await recorder.insert(connection, records[start : start + 70])
    # the same batch again, as after a crash, counts nothing twice
    async with along.write(ALL) as connection:
        await recorder.insert(connection, records[:70], again=True)
    groups = await told(along, group_by=("provider", "outcome"))
    counted = Counter((r["provider"] or "", r["outcome"]) for r in records)
    assert {(g["provider"] or "", g["outcome"]): g["requests"] for g in groups} == counted
    assert sum(g["requests"] for g in await told(along, bucket_s=3600)) == 300
    (whole,) = await told(along)
    assert whole["requests"] == 300
    assert whole["failures"] == sum(r["outcome"] == "failed" for r in records)
    assert whole["input_tokens"] == sum(r["input_tokens"] or 0 for r in records)
    assert whole["latency_max_s"] == 2.99
    timed = [r["latency_s"] for r in records if r["latency_s"] is not None]
    assert whole["latency_mean_s"] == pytest.approx(sum(timed) / len(timed))
    await along.close()


async def test_a_company_sees_its_own_sums(tmp_path: Path) -> None:
    database = await fresh(tmp_path / "gateway.db")
    async with database.write(ALL) as connection:
        await recorder.insert(connection, [record(number) for number in range(30)])
    (row,) = await usage.summary(database, company("c1"), since=0, until=time.time() * 2)
    assert row["requests"] == 10
    async with database.read(ALL) as connection:
        spans = {row["span_s"] for row in await connection.all(select(usage.table.c.span_s))}
    assert spans == set(usage.SPANS_S)
    await database.close()
