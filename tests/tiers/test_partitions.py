"""The record by days on a real PostgreSQL: what was there stays, what ran out goes whole."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select, text

from triptych.config.gateway import GatewayConfig
from triptych.errors import StorageError
from triptych.tiers import server
from triptych.tiers.store import migrations, tables
from triptych.tiers.store.cluster import partitions
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.personal_data import retention
from triptych.tiers.store.recorder import insert

pytestmark = pytest.mark.database
ALL = across("a test looks at everything")
DAY = partitions.DAY_S


@pytest.fixture
async def database(postgres: str) -> AsyncIterator[Database]:
    """Make a database of its own for each test, under a role without special rights."""
    admin = Database(postgres)
    async with admin.engine.connect() as raw:
        raw = await raw.execution_options(isolation_level="AUTOCOMMIT")
        await raw.execute(text("DROP DATABASE IF EXISTS days WITH (FORCE)"))
        await raw.execute(text("DROP ROLE IF EXISTS keeper"))
        await raw.execute(text("CREATE ROLE keeper LOGIN NOSUPERUSER NOBYPASSRLS"))
        await raw.execute(text("CREATE DATABASE days OWNER keeper"))
    url = admin.url.set(database="days", username="keeper", password=None)
    await admin.close()
    found = Database(url.render_as_string(hide_password=False))
    yield found
    await found.close()


def record(n: int, at: float, **more: Any) -> dict[str, Any]:
    made = {
        "request_id": f"req_{n:06d}", "created_at": at, "key_id": "k", "kind": "chat",
        "stream": False, "tier_asked": "base", "model_asked": "base", "outcome": "ok",
        "status": 200, "attempts": 1, "tokens_source": "unknown", "cached": False,
        "truncated_messages": 0, **more,
    }  # fmt: skip
    tried = {
        "request_id": made["request_id"], "number": 1, "created_at": at, "upstream": "u",
        "provider": "openai", "tier": "base", "model": "m", "outcome": "ok", "status": 200,
        "company_id": made.get("company_id"),
    }  # fmt: skip
    return {**made, "tries": [tried]}


async def write(database: Database, *records: dict[str, Any]) -> None:
    async with database.write(ALL) as connection:
        await insert(connection, list(records), again=True)


async def counted(database: Database) -> tuple[int, int]:
    found = []
    async with database.read(ALL) as connection:
        for table in (tables.requests, tables.attempts):
            row = await connection.first(select(func.count().label("n")).select_from(table))
            assert row is not None
            found.append(int(row["n"]))
    return found[0], found[1]


async def names(database: Database) -> list[str]:
    async with database.read(ALL) as connection:
        return await partitions._existing(connection, "requests")


async def test_a_record_of_the_schema_before_becomes_one_partition_and_goes_on(database) -> None:
    now = time.time()
    await migrations.upgrade(database, "0010")
    await write(database, *(record(n, now - n * DAY) for n in range(5)))
    await migrations.upgrade(database)
    assert await counted(database) == (5, 5)
    await partitions.ensure(database, now)
    await write(database, record(0, now), record(5, now + 1), record(6, now + DAY), record(7, 1.0))
    assert await counted(database) == (8, 8), "a record that was there is not doubled"
    assert await partitions.ensure(database, now) == 0, "doing it twice does nothing more"
    (before, *days) = sorted(await names(database), key=lambda name: "_before_" not in name)
    assert "_before_" in before and len(days) == 3, "today is in what was there"


async def test_days_that_ran_out_are_dropped_and_one_with_a_legal_hold_stays(database) -> None:
    await migrations.upgrade(database)
    now = time.time()
    for days in (900, 800, 0):
        await partitions.ensure(database, now - days * DAY)
    await write(
        database,
        record(1, now - 900 * DAY),
        record(2, now - 800 * DAY, company_id="acme"),
        record(3, now - 800 * DAY, company_id="globex"),
        record(4, now),
    )
    await retention.put_hold(database, "company:acme", "a court asks", actor="t")
    report = await retention.run(database, {}, now)
    async with database.read(ALL) as connection:
        rows = await connection.all(select(tables.requests.c.request_id))
    assert {row["request_id"] for row in rows} == {"req_000002", "req_000004"}
    assert report["days_dropped"] > 0
    assert report["requests"] == 1, "row by row beside the one that is held"
    await retention.lift_hold(database, "company:acme", actor="t")
    await retention.run(database, {}, now)
    assert await counted(database) == (1, 1)
    assert len(await names(database)) == 4, "today and three to come"


async def test_each_day_keeps_the_line_between_companies_also_when_read_by_its_own_name(
    database,
) -> None:
    await migrations.upgrade(database)
    now = time.time()
    await partitions.ensure(database, now)
    await write(database, record(1, now, company_id="acme"), record(2, now, company_id="globex"))
    seen = {}
    today = partitions._name("requests", int(now // DAY))
    async with database.engine.connect() as raw:
        for whose in ("", "acme", "*"):
            await raw.execute(
                text("SELECT set_config('triptych.company', :whose, true)"), {"whose": whose}
            )
            rows = await raw.execute(text(f"SELECT company_id FROM {today} ORDER BY 1"))
            seen[whose] = [row[0] for row in rows]
    assert seen == {"": [], "acme": ["acme"], "*": ["acme", "globex"]}


async def test_found_b11_a_role_that_bypasses_row_level_security_is_named_or_refused(
    database, postgres, workshop
) -> None:
    """The shipped compose file made the gateway's role a superuser, and nothing warned."""
    assert await partitions.bypasses_row_level_security(database) is False
    above = Database(database.url.set(username="postgres").render_as_string(hide_password=False))
    assert await partitions.bypasses_row_level_security(above) is True
    url = above.url.render_as_string(hide_password=False)
    await above.close()
    gateway = await workshop.gateway(database_url=url)
    assert (await gateway.ready())["row_level_security"] == "bypassed"
    with pytest.raises(StorageError, match="bypasses row-level security"):
        await server._prepare(GatewayConfig(database_url=url, require_row_level_security=True))
