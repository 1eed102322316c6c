"""Several workers on one address: restarted when one dies, ended with their gateway."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest
from gateway_process import Process, hammer
from pydantic import TypeAdapter

from triptych.config.gateway import GatewayConfig, UpstreamConfig
from triptych.config.loader import to_dict
from triptych.errors import StorageError
from triptych.processes import Backoff, free_port
from triptych.tiers.workers import Workers


def alive(process: Process) -> list[int]:
    children = psutil.Process(process.process.pid).children()
    return sorted(c.pid for c in children if c.status() != psutil.STATUS_ZOMBIE)


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


async def two_workers(home: Path) -> Process:
    home.mkdir(parents=True, exist_ok=True)
    process = Process(home, workers=2)
    await asyncio.to_thread(process.run, "flags", "provider.scripted=on", "real_ai_only=off")
    await asyncio.to_thread(process.start)
    return process


async def test_a_killed_worker_is_replaced_while_the_other_answers(own_home) -> None:
    process = await two_workers(own_home)
    before = alive(process)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    await until(lambda: len(set(alive(process)) - {before[0]}) == 2)
    seen: set[str] = set()
    await hammer(process, 50, seen, set())
    assert len(seen) == 50
    assert "worker-1 died: killed by signal 9" in process.log.read_text()
    after = alive(process)
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    assert process.process.returncode == 0
    assert not any(map(psutil.pid_exists, after))


async def test_the_workers_of_a_killed_gateway_are_ended_by_the_next_one(own_home) -> None:
    process = await two_workers(own_home)
    port = free_port()
    config = own_home / "gateway.toml"
    await asyncio.to_thread(process.kill, signal.SIGTERM)
    config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
    await asyncio.to_thread(process.start)
    orphans = alive(process)
    await asyncio.to_thread(process.kill, signal.SIGKILL)
    assert all(map(psutil.pid_exists, orphans)), "they hold the port"
    await asyncio.to_thread(process.start)
    assert not any(map(psutil.pid_exists, orphans))
    assert process.url.endswith(f":{port}")
    with pytest.raises(StorageError, match=f"in use by process {process.process.pid}"):
        Workers(own_home / "gateway" / "workers" / str(port))
    await asyncio.to_thread(process.kill, signal.SIGTERM)


def test_when_no_worker_can_serve_the_gateway_ends_with_an_error(own_home, caplog) -> None:
    """A datagram socket cannot be listened on, so every worker fails at its start."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unusable,
            Workers(own_home / "workers", Backoff(attempts=2, first_s=0.01)) as workers,
        ):
            assert workers.run(GatewayConfig(workers=2), unusable) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "worker-1 is given up" in caplog.text
    assert "worker-2 is given up" in caplog.text


def test_a_worker_reads_exactly_the_configuration_of_its_gateway() -> None:
    config = GatewayConfig(
        port=7999,
        workers=3,
        database_url="postgresql://someone:secret@127.0.0.1/x",
        provider_order=("openai", "local"),
        upstreams={"u": UpstreamConfig("local", "http://127.0.0.1:1/v1", {"base": "m"})},
    )
    text = TypeAdapter(GatewayConfig).dump_json(config)
    assert TypeAdapter(GatewayConfig).validate_json(text) == config
    assert TypeAdapter(GatewayConfig).validate_python(to_dict(config)) == config
