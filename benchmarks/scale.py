"""Measure what several gateways on one database cost and bring: python benchmarks/scale.py

One node, then two behind haproxy, on one PostgreSQL and one Redis, all on this machine: rates are
for comparing with each other. Then the record at a million rows: inserting, a page, a day dropped.
Needs haproxy, redis-server and the package that brings PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway_process import Process
from real_servers import proxy, running_postgres, running_redis
from report import environment, write_results

from triptych.processes import free_port
from triptych.tiers.store import interactions, migrations
from triptych.tiers.store.cluster import partitions
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.recorder import insert

ADMIN = "tri_" + "0123456789abcdefABCDEF" * 2
ALL = across("a benchmark reads everything")
BODY = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


async def rate(url: str, amount: int, at_once: int = 32) -> float:
    """Return answers per second."""
    left = [amount]

    async def work(http: aiohttp.ClientSession) -> None:
        while left[0] > 0:
            left[0] -= 1
            async with http.post(url + "/v1/chat/completions", json=BODY) as got:
                assert got.status == 200, await got.text()
                await got.read()

    headers = {"authorization": f"Bearer {ADMIN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        began = time.perf_counter()
        await asyncio.gather(*(work(http) for _ in range(at_once)))
        return amount / (time.perf_counter() - began)


async def flag_s(one: str, two: str, on: bool) -> float:
    """Return the seconds from a flag's change on one node until both workers' node has it."""
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def version(url: str) -> int:
            async with http.get(url + "/ready") as got:
                return int((await got.json())["flags_version"])

        async with http.put(one + "/admin/flags/cache", json={"value": on}) as got:
            assert got.status == 200, await got.text()
        began, wanted = time.perf_counter(), await version(one)
        while await version(two) != wanted:
            pass
        return time.perf_counter() - began


def node(folder: Path, name: str, database_url: str, redis: str) -> Process:
    """Prepare one gateway with a home of its own."""
    home = folder / name
    home.mkdir()
    settings = f'node = "{name}"\ndatabase_url = "{database_url}"\nredis_url = "{redis}"'
    made = Process(home, workers=1, settings=settings, TRIPTYCH_GATEWAY_ADMIN_KEY=ADMIN)
    config = home / "gateway.toml"
    shown = config.read_text().replace("port = 0", f"port = {free_port()}")
    config.write_text(shown.replace("delay-2+echo", "echo"))
    (home / "gateway").mkdir()
    (home / "gateway" / "admin-key").write_text(ADMIN)
    return made


def nodes(folder: Path, database_url: str, redis: str, amount: int) -> list[tuple[str, str]]:
    """Measure one node and two behind a proxy."""
    one, two = (node(folder, name, database_url, redis) for name in ("one", "two"))
    one.run("flags", "provider.scripted=on", "real_ai_only=off", "cache=off")
    rows = []
    try:
        for process in (one, two):
            process.start()
        asyncio.run(rate(one.url, amount // 4))
        alone = statistics.median(asyncio.run(rate(one.url, amount)) for _ in range(3))
        rows.append(("one node, one worker, asked directly", f"{alone:,.0f} answers/s"))
        with proxy([one.url, two.url], folder) as front:
            asyncio.run(rate(front, amount // 4))
            both = statistics.median(asyncio.run(rate(front, amount)) for _ in range(3))
        rows.append(("two nodes of one worker, behind haproxy", f"{both:,.0f} answers/s"))
        seen = [asyncio.run(flag_s(one.url, two.url, n % 2 == 0)) for n in range(6)]
        rows.append(("a flag from one node to the other", f"{max(seen):.2f} s at most, of 6"))
    finally:
        for process in (one, two):
            process.kill(signal.SIGTERM)
    return rows


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the seconds that some work takes."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def record(n: int, at: float) -> dict[str, Any]:
    """Return a record as a gateway writes it."""
    tried = {
        "request_id": f"b{n}", "number": 1, "created_at": at, "upstream": "u",
        "provider": "openai", "tier": "base", "model": "m", "outcome": "ok", "status": 200,
    }  # fmt: skip
    return {
        "request_id": f"b{n}", "created_at": at, "key_id": "k", "kind": "chat", "stream": False,
        "tier_asked": "base", "model_asked": "base", "tier_served": "base", "provider": "openai",
        "upstream": "u", "model": "m", "outcome": "ok", "status": 200, "attempts": 1,
        "input_tokens": 9, "output_tokens": 9, "tokens_source": "provider", "cached": False,
        "truncated_messages": 0, "node": "bench", "tries": [tried],
    }  # fmt: skip


async def at_size(database_url: str, rows: int) -> list[tuple[str, str]]:
    """Measure the record with many rows."""
    database = Database(database_url)
    await migrations.upgrade(database)
    now = time.time()
    old = now - 800 * partitions.DAY_S
    for at in (old, now):
        await partitions.ensure(database, at)
    batches = [[record(b * 200 + n, now - n / 1000) for n in range(200)] for b in range(25)]

    async def write() -> None:
        for batch in batches:
            async with database.write(ALL) as connection:
                await insert(connection, batch)

    found = [
        ("records written by one writer, batches of 200", f"{5000 / await timed(write):,.0f}/s")
    ]
    filled = (
        "INSERT INTO requests (request_id, created_at, key_id, kind, stream, tier_asked,"
        " model_asked, outcome, status, attempts, tokens_source, cached, truncated_messages)"
        " SELECT CAST(:mark AS text) || n, CAST(:at AS float8) + n * CAST(:step AS float8),"
        " 'k', 'chat', false, 'base', 'base', 'ok', 200,"
        " 1, 'provider', false, 0 FROM generate_series(1, CAST(:rows AS integer)) n"
    )
    async with database.write(ALL) as connection:
        for mark, at in (("old", old), ("new", now)):
            start = at // partitions.DAY_S * partitions.DAY_S
            step = 80_000 / rows
            values = {"mark": mark, "at": start, "step": step, "rows": rows}
            await connection.raw.execute(text(filled), values)
    page = [
        await timed(partial(interactions.page, database, ALL, limit=50, until=now - n * 60))
        for n in range(20)
    ]
    median = statistics.median(page) * 1000
    found.append((f"a page of 50 among {2 * rows:,} requests", f"{median:.1f} ms"))
    before = old + 2 * partitions.DAY_S
    took = await timed(lambda: partitions.drop_before(database, before, {}))
    found.append((f"a day of {rows:,} requests dropped", f"{took:.2f} s"))
    await database.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
    with (
        tempfile.TemporaryDirectory(prefix="scale-") as place,
        running_postgres() as database_url,
        running_redis(Path(place)) as redis,
    ):
        machine = environment()
        rows = nodes(Path(place), database_url, redis, args.requests)
        rows += asyncio.run(at_size(database_url, args.rows))
    write_results("scale", {**machine, **dict(rows)})


if __name__ == "__main__":
    main()
