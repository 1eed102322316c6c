"""What two machines on one database must agree on: the sealing key and the schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text

from triptych.config.gateway import GatewayConfig
from triptych.errors import StorageError
from triptych.tiers import server
from triptych.tiers.store.database import Database

pytestmark = pytest.mark.database
TOKEN = "sk-canaryCANARYcanaryCANARY"
ASK = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


async def fresh(postgres: str, name: str) -> str:
    """Make an empty database of this name and return its address."""
    database = Database(postgres)
    async with database.engine.connect() as raw:
        raw = await raw.execution_options(isolation_level="AUTOCOMMIT")
        await raw.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        await raw.execute(text(f"CREATE DATABASE {name}"))
    await database.close()
    return database.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
async def url(postgres: str) -> str:
    """Make a database of its own for each test."""
    return await fresh(postgres, "agreement")


async def call(gateway: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, gateway.url + path, json=body) as got,
    ):
        return got.status, await got.json()


async def entered(workshop: Any, own_home: Path, url: str) -> tuple[Any, Any, Any]:
    """Start two machines with a home each; the first gets an upstream and its key."""
    upstream = await workshop.upstream()
    found = []
    for name in ("one", "two"):
        workshop.home = own_home / name
        key = found[0].key if found else ""
        found.append(
            await workshop.gateway(key=key, database_url=url, allow_private_addresses=True)
        )
    one, two = found
    body = {
        "provider": "openai", "address": f"{upstream.url}/v1", "models": {"base": "m"},
        "key_name": "MY_TOKEN",
    }  # fmt: skip
    assert (await call(one, "PUT", "/admin/upstreams/mine", body))[0] == 200
    assert (await call(one, "PUT", "/admin/secrets/MY_TOKEN", {"value": TOKEN}))[0] == 200
    await two.runtime.refresh()
    return upstream, one, two


async def test_found_b9_an_upstream_whose_key_does_not_open_is_out_of_service_there(
    workshop, own_home, url
) -> None:
    """The second machine asked it without authorization; entering the key there broke the first."""
    upstream, one, two = await entered(workshop, own_home, url)
    assert (await one.post("/v1/chat/completions", ASK))[0] == 200
    before = upstream.calls
    status, answer, _ = await two.post("/v1/chat/completions", ASK)
    assert (status, upstream.calls) == (503, before), answer
    state = await two.ready()
    assert (state["status"], state["secrets_unopened"]) == ("degraded", 1)
    assert state["upstreams_out_of_service"] == 1
    assert (await call(two, "GET", "/admin/upstreams"))[1]["out_of_service"] == ["mine"]
    status, refused = await call(two, "PUT", "/admin/secrets/OTHER", {"value": TOKEN})
    assert (status, refused["error"]["code"]) == (409, "another_sealing_key")
    assert "TRIPTYCH_SECRETS_KEY" in str(refused)
    assert (await one.post("/v1/chat/completions", ASK))[0] == 200, "nothing broke"


async def test_two_machines_with_one_sealing_key_both_ask_with_the_entered_key(
    workshop, own_home, url, monkeypatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_SECRETS_KEY", "A" * 43 + "=")
    upstream, one, two = await entered(workshop, own_home, url)
    for gateway in (one, two):
        assert (await gateway.post("/v1/chat/completions", ASK))[0] == 200
        assert upstream.headers[-1]["authorization"] == f"Bearer {TOKEN}"
        assert (await gateway.ready())["status"] == "ready"
    assert (await call(two, "PUT", "/admin/secrets/OTHER", {"value": TOKEN}))[0] == 200


async def raise_schema(url: str, *statements: str) -> None:
    database = Database(url)
    async with database.engine.connect() as raw:
        for statement in (*statements, "UPDATE alembic_version SET version_num = '9999'"):
            await raw.execute(text(statement))
        await raw.commit()
    await database.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_node_beside_a_newer_schema_goes_on_says_so_and_one_that_starts_is_refused(
    workshop, url
) -> None:
    gateway = await workshop.gateway(
        {"s": workshop.UpstreamConfig("scripted", "", {"base": "echo"})}, database_url=url
    )
    await gateway.set(provider__scripted=True, real_ai_only=False)
    await raise_schema(url, "ALTER TABLE requests ADD COLUMN future TEXT DEFAULT 'x'")
    await until(lambda: bool(gateway.runtime.node.newer_schema))
    assert (await gateway.post("/v1/chat/completions", ASK))[0] == 200
    assert len(await gateway.records()) == 1
    state = await gateway.ready()
    assert (state["status"], state["schema"]) == ("degraded", "newer than this program")
    server.admin_key_file().parent.mkdir(parents=True, exist_ok=True)
    server.admin_key_file().write_text(gateway.key)
    with pytest.raises(StorageError, match="9999"):
        await server._prepare(GatewayConfig(database_url=url))


async def test_records_that_no_longer_fit_a_newer_schema_wait_until_the_newer_program_is_there(
    workshop, url
) -> None:
    gateway = await workshop.gateway(
        {"s": workshop.UpstreamConfig("scripted", "", {"base": "echo"})}, database_url=url
    )
    await gateway.set(provider__scripted=True, real_ai_only=False)
    await raise_schema(url, "ALTER TABLE usage DROP CONSTRAINT pk_usage")
    assert (await gateway.post("/v1/chat/completions", ASK))[0] == 200
    await until(lambda: gateway.runtime.recorder.failing_since is not None)
    assert gateway.runtime.recorder.spool.backlog_bytes > 0
    assert gateway.runtime.recorder.spool.lost == 0
    columns = "span_s, start, company_id, tier_served, provider, upstream, outcome, feature, node"
    await raise_schema(url, f"ALTER TABLE usage ADD CONSTRAINT pk_usage PRIMARY KEY ({columns})")
    assert len(await gateway.records()) == 1
