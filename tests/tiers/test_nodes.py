"""Two machines on one PostgreSQL and one Redis behind a real proxy, and what goes wrong there."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_process import Process, hammer
from prometheus_client.parser import text_string_to_metric_families
from real_servers import proxy
from sqlalchemy import func, select, text

from triptych.processes import free_port
from triptych.tiers.store import accounts, budgets, tables, usage
from triptych.tiers.store.cluster import nodes
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.recorder import replayed

pytestmark = pytest.mark.database
ALL = across("a test looks at everything")
ADMIN = "tri_" + "0123456789abcdefABCDEF" * 2


class Cluster:
    """Two gateways with a home each, and the address that stands before both."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder, self.database_url, self.redis_url = folder, database_url, redis_url
        self.one, self.two = (self.node(name) for name in ("one", "two"))
        self.url = ""

    def node(self, name: str) -> Process:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        settings = (
            f'node = "{name}"\ndrain_notice_s = 2\nmax_connections_per_address = 400\n'
            f'database_url = "{self.database_url}"\nredis_url = "{self.redis_url}"'
        )
        node = Process(
            home, workers=2, settings=settings, TRIPTYCH_GATEWAY_ADMIN_KEY=ADMIN,
            TRIPTYCH_SECRETS_KEY="A" * 43 + "=",
        )  # fmt: skip
        config = home / "gateway.toml"
        config.write_text(config.read_text().replace("port = 0", f"port = {free_port()}"))
        # the first node to start enters the admin's key; every node's operator knows it
        (home / "gateway").mkdir(exist_ok=True)
        (home / "gateway" / "admin-key").write_text(ADMIN)
        return node

    async def ask(self, session: aiohttp.ClientSession, **body: Any) -> tuple[int, str]:
        body = {"model": "base", "messages": [{"role": "user", "content": "hi"}], **body}
        async with session.post(self.url + "/v1/chat/completions", json=body) as got:
            return got.status, (await got.read()).decode()


@pytest.fixture(scope="module")
def cluster(postgres: str, redis_url: str, tmp_path_factory: Any) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")

    async def empty() -> str:
        database = Database(postgres)
        async with database.engine.connect() as raw:
            raw = await raw.execution_options(isolation_level="AUTOCOMMIT")
            await raw.execute(text("DROP DATABASE IF EXISTS nodes WITH (FORCE)"))
            await raw.execute(text("CREATE DATABASE nodes"))
        await database.close()
        return database.url.set(database="nodes").render_as_string(hide_password=False)

    made = Cluster(folder, asyncio.run(empty()), redis_url)
    made.one.run("flags", "provider.scripted=on", "real_ai_only=off")
    for node in (made.one, made.two):
        node.start()
    with proxy([made.one.url, made.two.url], folder) as made.url:
        yield made
    for node in (made.one, made.two):
        if node.process.poll() is None:
            node.kill(signal.SIGTERM)


@pytest.fixture
async def database(cluster: Cluster) -> Any:
    found = Database(cluster.database_url)
    yield found
    await found.close()


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"authorization": f"Bearer {ADMIN}"})


async def recorded(database: Database, ids: set[str]) -> Counter[str]:
    """Return how often each of these answers is in the record."""
    r = tables.requests.c.request_id
    async with database.read(ALL) as connection:
        rows = await connection.all(select(r).where(r.in_(ids)))
    return Counter(row["request_id"] for row in rows)


async def until(condition: Any) -> None:
    async with asyncio.timeout(90):
        while not await condition():
            await asyncio.sleep(0.1)


async def written(database: Database, ids: set[str]) -> None:
    async def all_there() -> bool:
        return set(await recorded(database, ids)) == ids

    await until(all_there)


async def hammered(cluster: Cluster, amount: int, seen: set[str], cut: set[str]) -> None:
    front = Process.__new__(Process)
    front.url, front.key = cluster.url, ADMIN
    await hammer(front, amount, seen, cut)


async def test_both_nodes_answer_and_what_they_used_is_counted_per_node_and_summed(
    cluster, database
) -> None:
    seen: set[str] = set()
    await hammered(cluster, 60, seen, set())
    assert len(seen) == 60
    await written(database, seen)
    async with database.read(ALL) as connection:
        r, s = tables.requests.c, tables.spend.c
        by_node = await connection.all(
            select(r.node, func.count().label("n")).where(r.request_id.in_(seen)).group_by(r.node)
        )
        assert {row["node"] for row in by_node} == {"one", "two"}
        spent = await connection.all(select(s.node, s.requests).where(s.subject.like("key:%")))
    assert {row["node"]: row["requests"] for row in spent} == {
        row["node"]: row["n"] for row in by_node
    }, "no node waits for the row of another"
    (whole,) = await usage.summary(database, ALL, since=0, until=1e11)
    parts = await usage.summary(database, ALL, since=0, until=1e11, group_by=["node"])
    assert whole["requests"] == sum(part["requests"] for part in parts) == 60
    assert {row["node"]: row["state"] for row in await nodes.listed(database)} == {
        "one": "alive",
        "two": "alive",
    }


async def test_found_b10_every_scrape_has_the_series_of_all_workers_and_none_goes_back(
    cluster,
) -> None:
    """Four workers: one address gave another one's counters each time."""

    async def scrape(http: aiohttp.ClientSession, url: str) -> dict[tuple[str, str], float]:
        async with http.get(url + "/metrics") as got:
            raw = await got.text()
        sums: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(raw):
            for sample in family.samples:
                if sample.name == "triptych_requests_total":
                    key = (sample.labels["node"], sample.labels["worker"])
                    sums[key] = sums.get(key, 0) + sample.value
        return sums

    async with session() as http:
        for _ in range(40):
            await cluster.ask(http)
    # a new connection each time, so that another worker is asked
    first: dict[tuple[str, str], float] = {}
    for _ in range(6):
        async with session() as http:
            for node in (cluster.one, cluster.two):
                found = await scrape(http, node.url)
                assert {name for name, _ in found} == {"one" if node is cluster.one else "two"}
                for key, value in found.items():
                    assert value == first.setdefault(key, value), "nothing was asked in between"
    assert {worker for _, worker in first} == {"1", "2"}


async def test_a_flag_reaches_every_worker_and_a_rollout_is_the_same_on_all(cluster) -> None:
    async with session() as http:

        async def version(node: Process) -> int:
            async with http.get(node.url + "/ready") as got:
                return int((await got.json())["flags_version"])

        body = {"value": False}
        async with http.put(cluster.one.url + "/admin/flags/cache", json=body) as got:
            assert got.status == 200, await got.text()
        now = await version(cluster.one)

        async def everywhere() -> bool:
            return [await version(node) for node in (cluster.one, cluster.two)] == [now, now]

        await until(everywhere)


async def test_sixty_spenders_through_both_nodes_never_spend_more_than_the_budget(
    cluster, database
) -> None:
    key = await accounts.create_key(database, name="spender", kind="service", actor="t")
    row = next(row for row in await accounts.list_keys(database) if row["name"] == "spender")
    subject = f"key:{row['key_id']}"
    await budgets.set_budget(database, subject, "day", max_tokens=900, scope=ALL, actor="t")
    headers = {"authorization": f"Bearer {key}"}
    statuses: Counter[int] = Counter()

    async def spend() -> None:
        async with aiohttp.ClientSession(headers=headers) as http:
            for _ in range(5):
                status, _ = await cluster.ask(http, max_tokens=20)
                statuses[status] += 1

    async with aiohttp.ClientSession(headers=headers) as http:

        async def known() -> bool:
            asked = [await cluster.ask(http, max_tokens=1) for _ in range(8)]
            return all(status == 200 for status, _ in asked)

        await until(known)
    await asyncio.gather(*(spend() for _ in range(60)))
    assert set(statuses) <= {200, 402, 429}
    assert statuses[200] < 300, "the budget is smaller than what they ask for"

    async def settled() -> bool:
        async with database.read(ALL) as connection:
            used = await budgets.used_of(connection, subject, "day", time.time())
        assert used.tokens + used.held_tokens <= 900
        return used.held_tokens == 0

    await until(settled)
    r = tables.requests.c
    async with database.read(ALL) as connection:
        used = await budgets.used_of(connection, subject, "day", time.time())
        total = await connection.first(
            select(func.sum(r.input_tokens + r.output_tokens).label("n")).where(
                r.key_id == row["key_id"], r.cached.is_(False)
            )
        )
    assert total is not None
    assert used.tokens == int(total["n"]) > 0


async def test_a_node_killed_in_traffic_loses_and_doubles_nothing_when_it_comes_back(
    cluster, database
) -> None:
    seen: set[str] = set()
    traffic = asyncio.create_task(hammered(cluster, 300, seen, set()))

    async def under_way() -> bool:
        return len(seen) > 60

    await until(under_way)
    await asyncio.to_thread(cluster.two.kill)
    await traffic
    assert len(seen) > 100, "the other node went on"
    await asyncio.to_thread(cluster.two.start)
    await written(database, seen)
    assert set((await recorded(database, seen)).values()) == {1}


async def test_answers_under_way_end_and_new_ones_go_elsewhere_while_a_node_drains(
    cluster, database
) -> None:
    """The stream is longer than the notice; the proxy's clients see no failure at all."""
    async with session() as http:
        streams = [
            asyncio.create_task(cluster.ask(http, model="slow", stream=True)) for _ in range(6)
        ]
        await asyncio.sleep(0.2)
        cluster.two.process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            async with http.get(cluster.two.url + "/ready") as got:
                return got.status == 503 and (await got.json())["status"] == "draining"

        await until(draining)
        asked = 0
        while cluster.two.process.poll() is None:
            status, _ = await cluster.ask(http)
            assert status == 200
            asked += 1
        ended = await asyncio.gather(*streams)
    assert cluster.two.process.returncode == 0
    assert asked
    assert all(status == 200 and "[DONE]" in raw for status, raw in ended)
    names = {row["node"] for row in await nodes.listed(database)}
    assert names == {"one"}, "who stops in order is no lost node"
    await asyncio.to_thread(cluster.two.start)


async def test_of_a_node_that_is_gone_for_good_it_is_said_what_went_with_it(
    cluster, database
) -> None:
    seen: set[str] = set()
    traffic = asyncio.create_task(hammered(cluster, 200, seen, set()))

    async def under_way() -> bool:
        return len(seen) > 80

    await until(under_way)
    await asyncio.to_thread(cluster.two.power_off)
    await traffic
    home = cluster.two.home
    saved = home.with_name("rescued-disk")
    shutil.move(home, saved)

    async with database.write(ALL) as connection:  # an hour passes
        c = nodes.table.c
        await connection.execute(
            nodes.table.update().where(c.node == "two").values(seen_at=c.seen_at - 3600)
        )
    states = {row["node"]: row["state"] for row in await nodes.listed(database)}
    assert states == {"one": "alive", "two": "lost"}
    missing = seen - set(await recorded(database, seen))
    await replayed(database, saved / "gateway" / "spool")
    await written(database, seen)
    assert set((await recorded(database, seen)).values()) == {1}
    async with database.read(ALL) as connection:
        r = tables.requests.c
        rows = await connection.all(select(r.node).where(r.request_id.in_(missing)))
    # A rescued folder does not say whose it was.
    assert {row["node"] for row in rows} <= {"one", "two", ""}
    took = await nodes.forget(database, "two", actor="t")
    assert took["unwritten_bytes"] >= 0
    assert took["requests_without_record"] == 0
