"""The same promises on a real PostgreSQL, with two workers on it at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select, text

from triptych.config.gateway import UpstreamConfig
from triptych.errors import EditConflict
from triptych.tiers.store import (
    accounts,
    audit,
    budgets,
    feedback,
    interactions,
    migrations,
    tables,
    usage,
)
from triptych.tiers.store import flags as store
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.recorder import Recorder

pytestmark = pytest.mark.database
ALL = across("a test looks at everything")


@pytest.fixture
async def url(postgres: str) -> AsyncIterator[str]:
    """Give each test an empty schema."""
    database = Database(postgres)
    async with database.engine.connect() as raw:
        await raw.execute(text("DROP SCHEMA public CASCADE"))
        await raw.execute(text("CREATE SCHEMA public"))
        await raw.commit()
    await database.close()
    yield postgres


async def test_the_gateway_answers_records_and_steers_on_postgresql(url, workshop) -> None:
    one = await workshop.gateway(
        {"s": UpstreamConfig("scripted", "", {"base": "echo"})}, database_url=url
    )
    two = await workshop.gateway(
        {"s": UpstreamConfig("scripted", "", {"base": "echo"})}, database_url=url
    )
    await one.set(provider__scripted=True, real_ai_only=False)
    async with asyncio.timeout(60):
        while not two.runtime.flags.resolve("u")["provider.scripted"]:
            await asyncio.sleep(0.05)
    two.key = one.key
    await two.runtime.refresh()
    answers = await asyncio.gather(
        *(
            gateway.post("/api/query", {"input": f"q{n}"})
            for n in range(20)
            for gateway in (one, two)
        )
    )
    assert {status for status, _, _ in answers} == {200}
    await one.records()
    found = await two.records()
    assert len(found) == 40
    request_id = answers[0][1]["request_id"]
    given = await one.post(
        "/api/feedback", {"kind": "thumb", "value": True, "request_id": request_id}
    )
    assert given[0] == 200
    assert len(await feedback.listed(one.database, ALL)) == 1
    page = await interactions.page(one.database, ALL, limit=15)
    after = (page[-1]["created_at"], page[-1]["request_id"])
    rest = await interactions.page(one.database, ALL, after=after, limit=100)
    assert len(page) + len(rest) == 40
    (row,) = await usage.summary(one.database, ALL, since=0, until=1e11)
    assert (row["requests"], row["failures"], type(row["input_tokens"])) == (40, 0, int)
    buckets = await usage.summary(
        one.database, ALL, since=0, until=1e11, bucket_s=3600, group_by=["provider"]
    )
    assert sum(bucket["requests"] for bucket in buckets) == 40


async def test_workers_that_start_together_migrate_once(url) -> None:
    databases = [Database(url) for _ in range(4)]
    done = await asyncio.gather(*(migrations.upgrade(d) for d in databases))
    assert any(done)
    assert {await migrations.current(d) for d in databases} == {migrations.newest()}
    for database in databases:
        await database.close()


async def test_concurrent_admins_conflict_and_the_audit_stays_one_chain(url) -> None:
    databases = [Database(url) for _ in range(3)]
    await migrations.upgrade(databases[0])
    version = await store.set_flag(databases[0], "cache", False, actor="ann")
    results = await asyncio.gather(
        *(
            store.set_flag(d, "cache", True, actor=f"admin{n}", expected_version=version)
            for n, d in enumerate(databases)
        ),
        return_exceptions=True,
    )
    assert sum(result == version + 1 for result in results) == 1
    assert sum(isinstance(result, EditConflict) for result in results) == 2
    await asyncio.gather(
        *(
            store.set_override(d, "cache", "user", f"u{n}-{i}", True, actor="t")
            for n, d in enumerate(databases)
            for i in range(10)
        )
    )
    assert await audit.verify(databases[0]) == (32, None)
    for database in databases:
        await database.close()


async def test_four_writers_with_mixed_and_repeated_records_never_deadlock(url, own_home) -> None:
    databases = [Database(url) for _ in range(4)]
    await migrations.upgrade(databases[0])
    recorders = [Recorder(d, own_home / "spool", interval_s=0.01) for d in databases]
    for recorder in recorders:
        await recorder.open()

    def record(n: int) -> dict[str, Any]:
        tries = [
            {
                "request_id": f"req_{n:06d}", "number": 1, "created_at": 1.0, "upstream": "u",
                "provider": "openai", "tier": "base", "model": "m", "outcome": "ok", "status": 200,
            }
        ]  # fmt: skip
        return {
            "request_id": f"req_{n:06d}", "created_at": float(n), "key_id": "k", "kind": "chat",
            "stream": False, "tier_asked": "base", "model_asked": "base", "outcome": "ok",
            "status": 200, "attempts": 1, "tokens_source": "unknown", "cached": False,
            "truncated_messages": 0, "tries": tries,
        }  # fmt: skip

    async def write(recorder: Recorder, step: int) -> None:
        # every writer writes every record, each in another order
        for n in range(600):
            recorder.spool.end(record(n * step % 600))
            if n % 20 == 0:
                await asyncio.sleep(0.001)

    await asyncio.gather(*(write(r, s) for r, s in zip(recorders, (1, 7, 11, 13), strict=True)))
    for recorder in recorders:
        await recorder.close()
    async with databases[0].read(ALL) as connection:
        for table in (tables.requests, tables.attempts):
            row = await connection.first(select(func.count().label("n")).select_from(table))
            assert row == {"n": 600}
    for database in databases:
        await database.close()


async def test_row_level_security_holds_the_line_beneath_every_statement(url, workshop) -> None:
    """As a role without special rights, the one a deployment runs under."""
    superuser = Database(url)
    await migrations.upgrade(superuser)
    async with superuser.engine.connect() as raw:
        await raw.execute(text("DROP ROLE IF EXISTS app"))
        await raw.execute(text("CREATE ROLE app LOGIN"))
        await raw.execute(text("GRANT USAGE ON SCHEMA public TO app"))
        await raw.execute(text("GRANT ALL ON ALL TABLES IN SCHEMA public TO app"))
        await raw.execute(text("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app"))
        await raw.commit()
    own = superuser.url.set(username="app").render_as_string(hide_password=False)
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("scripted", "", {"base": "echo"})}, database_url=own
    )
    await gateway.set(provider__scripted=True, real_ai_only=False)
    for name in ("acme", "globex"):
        await accounts.create_company(gateway.database, name, name, actor="t")
    await gateway.runtime.refresh()
    for name in ("acme", "globex"):
        status, _, _ = await gateway.post(
            "/api/query", {"input": "hi", "companyId": name, "useCompanyModel": False}
        )
        assert status == 200
    assert len(await gateway.records()) == 2
    seen = {}
    async with gateway.database.engine.connect() as raw:
        for whose in ("", "acme", "globex", "*"):
            config = text("SELECT set_config('triptych.company', :whose, true)")
            await raw.execute(config, {"whose": whose})
            rows = await raw.execute(text("SELECT company_id FROM requests ORDER BY company_id"))
            seen[whose] = [row[0] for row in rows]
        await raw.execute(config, {"whose": "acme"})
        with pytest.raises(Exception, match="row-level security"):
            await raw.execute(
                text(
                    "INSERT INTO memberships (user_id, company_id, role, created_at)"
                    " VALUES ('u', 'globex', 'user', 1)"
                )
            )
    assert seen == {
        "": [], "acme": ["acme"], "globex": ["globex"], "*": ["acme", "globex"]
    }, "a statement that forgot its scope sees nothing"  # fmt: skip
    await gateway.stop()
    async with superuser.engine.connect() as raw:
        await raw.execute(text("DROP OWNED BY app"))
        await raw.execute(text("DROP ROLE app"))
        await raw.commit()
    await superuser.close()


async def test_every_table_with_a_tenant_has_its_policy(url) -> None:
    database = Database(url)
    await migrations.upgrade(database)
    async with database.engine.connect() as raw:
        rows = await raw.execute(text("SELECT tablename FROM pg_policies"))
        guarded = {row[0] for row in rows}
    tenants = {t.name for t in tables.metadata.sorted_tables if "tenant" in t.info}
    assert tenants <= guarded
    await database.close()


async def test_budgets_hold_on_postgresql_with_two_workers(url, workshop) -> None:
    upstream = await workshop.upstream()
    decided = asyncio.Event()

    async def slow(request: Any, body: Any) -> Any:
        await asyncio.wait_for(decided.wait(), 120)
        return await upstream.answer(request, body)

    upstream.behaviour = slow
    declared = {"o": UpstreamConfig("openai", f"{upstream.url}/v1", {"base": "gpt-5-mini"})}
    one = await workshop.gateway(declared, database_url=url)
    two = await workshop.gateway(declared, key=one.key, database_url=url)
    (row,) = await accounts.list_keys(one.database)
    subject = f"key:{row['key_id']}"
    await budgets.set_budget(one.database, subject, "day", max_tokens=400, scope=ALL, actor="t")
    for gateway in (one, two):
        await gateway.runtime.refresh()
    question = {"model": "base", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 30}
    asked = [
        asyncio.ensure_future((one, two)[n % 2].post("/v1/chat/completions", question))
        for n in range(80)
    ]
    # Nobody gives back what is not used before everybody was granted or refused.
    while upstream.open + sum(task.done() for task in asked) < len(asked):
        await asyncio.sleep(0.01)
    decided.set()
    found = await asyncio.gather(*asked)
    statuses = [status for status, _, _ in found]
    assert set(statuses) == {200, 429}
    assert 5 <= statuses.count(200) <= 400 // 30
    for gateway in (one, two):
        await gateway.records()
    async with one.database.read(ALL) as connection:
        used = await budgets.used_of(connection, subject, "day", time.time())
    assert (used.tokens, used.held_tokens) == (5 * statuses.count(200), 0)
