"""A real server on a free port, with a real engine behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from triptych.config import load_config
from triptych.config.environment import Secret
from triptych.lm.serve.app import create_app
from triptych.lm.serve.models import build_service, describe_model
from triptych.lm.serve.service import ModelService
from triptych.processes.ports import bind

ONE_THREAD = ("generate.threads=1", "generate.max_batch=4", "generate.dtype=float32")


class RunningServer:
    """Where a server listens, and what stands behind it."""

    def __init__(self, url: str, service: ModelService) -> None:
        self.url = url
        self.service = service


@contextmanager
def serve(
    *folders: Path, token: str = "", settings: tuple[str, ...] = ()
) -> Iterator[RunningServer]:
    config = load_config(None, [*ONE_THREAD, *settings])
    service = build_service([describe_model(str(folder), Path) for folder in folders], config)
    app = create_app(service, token=Secret(token) if token else None)
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield RunningServer(f"http://127.0.0.1:{listener.getsockname()[1]}", service)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


@pytest.fixture(scope="session", autouse=True)
def gguf_home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keep one home for the whole session, so that a model is converted once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TRIPTYCH_HOME", str(tmp_path_factory.mktemp("home")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def server(qwen3_folder: Path, gguf_home: None) -> Iterator[RunningServer]:
    with serve(qwen3_folder) as running:
        yield running


Start = Callable[..., AbstractContextManager[RunningServer]]


@pytest.fixture(scope="session")
def start() -> Start:
    """Hand out the function that starts another server with its own settings."""
    return serve
