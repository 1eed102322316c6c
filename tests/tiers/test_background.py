"""Background work never dies silently, and connections never take what the record needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_process import Process
from sqlalchemy import text

from triptych.processes import BackgroundTask
from triptych.tiers.store import spool
from triptych.tiers.store.database import across

ALL = across("a test reads everything")
ASKED = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


async def until(condition: Any) -> None:
    """Wait for a condition; the test's own time limit ends it."""
    while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):
        await asyncio.sleep(0.02)


async def test_found_a2_idle_connections_up_to_the_descriptor_limit_stop_no_record(
    own_home,
) -> None:
    """With 128 descriptors and 300 connections that send nothing, without a key."""
    own_home.mkdir(parents=True, exist_ok=True)
    process = Process(own_home)
    process.start("bash", "-c", 'ulimit -n 128; exec "$@"', "gateway")
    host, port = process.url.removeprefix("http://").split(":")
    idle: list[socket.socket] = []
    try:
        for _ in range(300):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((host, int(port)))
            idle.append(one)
        await asyncio.sleep(1.0)
        for one in idle:
            one.close()
        headers = {"authorization": f"Bearer {process.key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for _ in range(3):
                async with session.post(f"{process.url}/v1/chat/completions", json=ASKED) as got:
                    assert got.status == 503, "no upstream answers: that has a record too"

            async def written() -> bool:
                async with session.get(f"{process.url}/api/requests") as got:
                    return len((await got.json())["requests"]) == 3

            async with asyncio.timeout(10):
                await until(written)
            async with session.get(f"{process.url}/ready") as got:
                state = await got.json()
            assert (state["status"], state["failing_tasks"]) == ("ready", [])
            async with session.get(f"{process.url}/metrics") as got:
                metrics = await got.text()
            oldest = r'triptych_oldest_unwritten_record_seconds\{node="[^"]+",worker="1"\} 0.0'
            assert re.search(oldest, metrics)
    finally:
        for one in idle:
            one.close()
        process.kill()


async def test_found_a2_connections_beyond_the_limit_are_closed_and_counted(workshop) -> None:
    gateway = await workshop.gateway(max_connections=8, max_connections_per_address=4)
    host, port = gateway.url.removeprefix("http://").split(":")
    idle = [await asyncio.open_connection(host, int(port)) for _ in range(6)]
    for reader, _ in idle[4:]:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
    assert gateway.runtime.connections.refused == 2
    for _, writer in idle:
        writer.close()
    await until(lambda: gateway.runtime.connections.open == 0)
    assert (await gateway.ready())["status"] == "ready"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: ",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_found_a2_a_connection_that_sends_no_whole_request_is_closed(workshop, sent) -> None:
    gateway = await workshop.gateway(header_timeout_s=0.2, body_timeout_s=0.2, anonymous=True)
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    assert gateway.runtime.connections.timed_out == 1
    writer.close()


async def test_found_a2_any_exception_restarts_a_task_with_a_pause_and_is_seen(caplog) -> None:
    runs: list[int] = []
    recovered = asyncio.Event()

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) <= 2:
            raise OSError(24, "Too many open files")
        task.succeeded()
        recovered.set()
        await asyncio.Event().wait()

    task = BackgroundTask("record", work, logger=logging.getLogger("x"), first_pause_s=0.01)
    task.start()
    await until(lambda: task.failing)
    assert "Too many open files" in task.failing
    await recovered.wait()
    assert (task.failures, task.failing) == (2, "")
    assert "background task record failed" in caplog.text
    await task.stop()


async def test_found_a2_settings_that_cannot_be_read_are_told_and_read_once_repaired(
    workshop,
) -> None:
    """Facts that are no mapping end the task that polls settings, with an exception it missed."""
    gateway = await workshop.gateway(poll_interval_s=0.02)
    row = (
        "INSERT INTO companies (company_id, name, facts, allow_external, created_at)"
        " VALUES ('c', 'n', '\"text\"', 0, 1.0)"
    )
    raised = (
        "INSERT INTO changes VALUES ('accounts', 1)"
        " ON CONFLICT DO UPDATE SET version = changes.version + 1"
    )
    async with gateway.database.write(ALL) as connection:
        await connection.raw.execute(text(row))
        await connection.raw.execute(text(raised))

    async def degraded() -> bool:
        state = await gateway.ready()
        return state["status"] == "degraded" and state["failing_tasks"] == ["settings"]

    await until(degraded)
    assert b'triptych_background_task_failing{task="settings"} 1.0' in gateway.runtime.measure()
    async with gateway.database.write(ALL) as connection:
        await connection.raw.execute(text("UPDATE companies SET facts = '{}'"))

    async def well() -> bool:
        return (await gateway.ready())["status"] == "ready"

    await until(well)
    assert "c" in gateway.runtime.companies()


async def test_found_a2_a_damaged_line_of_the_spool_holds_up_no_other(workshop) -> None:
    gateway = await workshop.gateway()
    handle = gateway.runtime.recorder.spool
    handle._append(b'{"k":"e", damaged}\n')
    status, _, _ = await gateway.post("/v1/chat/completions", ASKED)
    assert status in (200, 503)
    assert len(await gateway.records()) == 1
    assert (await gateway.ready())["records_lost"] == 1


def test_found_c17_a_segment_whose_first_lines_do_not_fit_leaks_nothing(tmp_path: Path) -> None:
    """The disk is full: the old segment goes on, and no descriptor stays open."""
    one = spool.Spool(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    # a device that refuses every byte stands where the next segment would be
    (one.folder / "00000002.log").symlink_to("/dev/full")
    for _ in range(5):
        one.roll()
        (one.folder / "00000002.log").unlink(missing_ok=True)
        (one.folder / "00000002.log").symlink_to("/dev/full")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    (one.folder / "00000002.log").unlink()
    one.start({"request_id": "a"})
    one.end({"request_id": "a"})
    assert [record["request_id"] for record in one.read(10)[0]] == ["a"]
    one.close(drained=True)
