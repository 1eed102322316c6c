"""A hub that runs jobs, and the unmodified client and command line."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from huggingface_hub import HfApi, JobInfo

from triptych.config.hub import HubConfig
from triptych.hub.server.http.app import create_app
from triptych.hub.server.http.call import Services
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.accounts import create_account
from triptych.hub.server.storage.identity.tokens import create_token

PATIENCE_S = 120.0
OVER = ("COMPLETED", "ERROR", "CANCELED")


@dataclass
class RunningHub:
    """A hub that serves from a thread of the test process."""

    url: str
    root: Path
    services: Services
    token: str

    @property
    def hub(self) -> Hub:
        """The hub's storage and configuration."""
        return self.services.hub

    def api(self, token: str | None = None) -> HfApi:
        return HfApi(endpoint=self.url, token=token or self.token)

    def user(self, role: str = "write") -> tuple[str, str]:
        account = create_account(self.hub.database, f"user-{secrets.token_hex(4)}")
        return account.name, create_token(self.hub.database, account, "test", role)

    def python(self, code: str, **more: Any) -> JobInfo:
        """Run a line of Python as a job."""
        return self.api().run_job(image="python:3", command=["python", "-c", code], **more)

    def stage(self, job: JobInfo) -> str:
        return str(self.api().inspect_job(job_id=job.id).status.stage)

    def until(self, job: JobInfo, *stages: str) -> JobInfo:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            now = self.api().inspect_job(job_id=job.id)
            if now.status.stage in (stages or OVER):
                return now
            assert time.monotonic() < deadline, f"{now.status} for too long"
            time.sleep(0.05)

    def logs(self, job: JobInfo, **more: Any) -> list[str]:
        return list(self.api().fetch_job_logs(job_id=job.id, **more))

    def hf(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the `hf` command."""
        environment = {**os.environ, "HF_ENDPOINT": self.url, "HF_TOKEN": self.token}
        return subprocess.run(
            [str(Path(sys.executable).with_name("hf")), *arguments],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    root = tmp_path_factory.mktemp("hub")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    app = create_app(HubConfig(root=str(root), port=port, space_port=0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, date_header=False)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield RunningHub(
        f"http://127.0.0.1:{port}", root, app.services, (root / "admin_token").read_text().strip()
    )
    server.should_exit = True
    thread.join(timeout=PATIENCE_S)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], Any]], Any]:
    def wait(true: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (value := true()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return value

    return wait
