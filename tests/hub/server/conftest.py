"""A real hub on a real socket, and the unmodified client that speaks to it."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from huggingface_hub import HfApi

from triptych.config.hub import HubConfig
from triptych.hub.server.http.app import create_app
from triptych.hub.server.http.call import Services
from triptych.hub.server.http.serving import settings
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.accounts import Account, create_account
from triptych.hub.server.storage.identity.tokens import create_token


@dataclass
class RunningHub:
    """A hub that serves from a thread of the test process."""

    url: str
    root: Path
    services: Services
    admin_token: str

    @property
    def hub(self) -> Hub:
        """The hub's storage and configuration."""
        return self.services.hub

    def api(self, token: str | bool | None = None) -> HfApi:
        """Return the unmodified client."""
        return HfApi(endpoint=self.url, token=self.admin_token if token is None else token)

    def user(self, name: str | None = None, role: str = "write") -> tuple[Account, str]:
        """Add a user and return it with a token."""
        account = create_account(self.hub.database, name or f"user-{secrets.token_hex(4)}")
        return account, create_token(self.hub.database, account, "test", role)


class HubProcess:
    """A hub in a process of its own, over a folder that survives it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        command = [sys.executable, "-m", "triptych", "hub", "serve",
                   "--root", str(root), "--port", "0"]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        try:
            self._wait_until_it_answers(self.process.stdout.readline())
        except BaseException:
            self.kill()
            raise
        token = (root / "admin_token").read_text().strip()
        self.headers = {"Authorization": f"Bearer {token}"}

    def _wait_until_it_answers(self, line: str) -> None:
        self.url = line.removeprefix("hub: ").strip()
        assert self.url.startswith("http"), "the hub did not start"
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{self.url}/health", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the hub does not answer"
                time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would; safe to call twice."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def hub_process() -> Iterator[Callable[[Path], HubProcess]]:
    """Start hubs in processes of their own; none outlives the test."""
    started: list[HubProcess] = []

    def start(root: Path) -> HubProcess:
        started.append(HubProcess(root))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture(scope="session")
def start_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningHub]]:
    """Start hubs, each over a folder of its own, and stop them at the end."""
    stops: list[Callable[[], None]] = []

    def start(**values: object) -> RunningHub:
        root = tmp_path_factory.mktemp("hub")
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = HubConfig(root=str(root), port=port, **values)  # type: ignore[arg-type]
        raw = create_app(config)
        server = uvicorn.Server(settings(raw))

        def run() -> None:
            asyncio.run(server.serve([listener]))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 120
        while not server.started:
            assert thread.is_alive(), "the hub did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)

        def stop() -> None:
            server.should_exit = True
            thread.join(timeout=20)

        stops.append(stop)
        token = (root / "admin_token").read_text().strip()
        return RunningHub(f"http://127.0.0.1:{port}", root, raw.services, token)

    yield start
    for stop in stops:
        stop()


@pytest.fixture(scope="session")
def hub(start_hub: Callable[..., RunningHub]) -> RunningHub:
    """One hub for all tests that do not disturb it."""
    return start_hub()


@pytest.fixture
def client_cache(tmp_path: Path) -> Path:
    """A download cache that no other test has filled."""
    return tmp_path / "cache"


@pytest.fixture
def repo_id() -> str:
    """The name of a repository that no other test uses."""
    return f"admin/r{secrets.token_hex(5)}"
