"""A hub that runs real Spaces, the unmodified client, and an app that shows what it sees."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from huggingface_hub import CommitOperationAdd, HfApi

from triptych.config.hub import HubConfig
from triptych.hub.server.http.app import create_app
from triptych.hub.server.http.call import Services
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.accounts import create_account
from triptych.hub.server.storage.identity.tokens import create_token

PATIENCE_S = 90.0
README = "---\ntitle: A test\nsdk: gradio\n---\n"

# An app that tells what it sees and misbehaves on request.
PROBE = """
import asyncio, os, signal, socket as socketlib, subprocess, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

gone = []

async def home(request):
    return PlainTextResponse(os.environ.get("GREETING", "hello"))

async def seen(request):
    return JSONResponse({
        "pid": os.getpid(), "environment": dict(os.environ), "folder": os.getcwd(),
        "headers": dict(request.headers), "path": request.scope["raw_path"].decode(),
        "query": request.scope["query_string"].decode(), "user": os.getuid(), "gone": gone,
        "processes": processes(),
    })

def processes():
    try:
        return [p for p in os.listdir("/proc") if p.isdigit()]
    except PermissionError:
        return []

async def read(request):
    try:
        with open(request.query_params["path"], "rb") as file:
            return Response(file.read())
    except OSError as error:
        return PlainTextResponse(type(error).__name__, 404)

async def write(request):
    try:
        with open(request.query_params["path"], "ab") as file:
            file.write(b"was here")
        return PlainTextResponse("written")
    except OSError as error:
        return PlainTextResponse(type(error).__name__, 403)

async def bind(request):
    try:
        with socketlib.socket() as one:
            one.setsockopt(socketlib.SOL_SOCKET, socketlib.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", int(request.query_params["port"])))
        return PlainTextResponse("bound")
    except OSError as error:
        return PlainTextResponse(type(error).__name__, 403)

async def kill(request):
    try:
        os.kill(int(request.query_params["pid"]), 0)
        return PlainTextResponse("reached")
    except OSError as error:
        return PlainTextResponse(type(error).__name__, 403)

async def echo(request):
    return Response(await request.body(), headers={"x-method": request.method})

async def cookies(request):
    answer = JSONResponse(request.cookies)
    answer.set_cookie("mine", "1", domain="127.0.0.1")
    return answer

async def stream(request):
    async def lines():
        try:
            for number in range(int(request.query_params.get("count", 5))):
                yield f"data: {number}\\n\\n"
                await asyncio.sleep(0.2)
        finally:
            gone.append("stream ended")
    return StreamingResponse(lines(), media_type="text/event-stream")

async def cut(request):
    async def lines():
        yield b"half"
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    return StreamingResponse(lines())

async def crash(request):
    print("about to crash", flush=True)
    os._exit(int(request.query_params.get("code", 3)))

async def eat(request):
    global eaten
    eaten = bytearray(int(request.query_params["megabytes"]) * 2**20)
    return PlainTextResponse("full")

async def fork(request):
    code = "import time; time.sleep(60)"
    children.extend(subprocess.Popen([sys.executable, "-c", code]) for _ in range(40))
    return PlainTextResponse("many")

children = []

async def socket(websocket):
    await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[0])
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            gone.append(f"socket {message['code']}")
            return
        if message.get("text") == "bye":
            await websocket.close(4001)
            return
        if message.get("text") is not None:
            await websocket.send_text("echo " + message["text"])
        else:
            await websocket.send_bytes(message["bytes"][::-1])

print("the probe starts")
if os.environ.get("BROKEN"):
    raise SystemExit("broken on purpose")
methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
app = Starlette(routes=[
    Route("/", home), Route("/seen", seen), Route("/seen/{rest:path}", seen),
    Route("/read", read), Route("/write", write),
    Route("/bind", bind), Route("/kill", kill),
    Route("/echo", echo, methods=methods), Route("/cookies", cookies), Route("/stream", stream),
    Route("/cut", cut), Route("/crash", crash), Route("/eat", eat), Route("/fork", fork),
    WebSocketRoute("/ws", socket),
])
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
"""


def wait_for(true: Callable[[], Any], what: str = "it") -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := true()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return value


@dataclass
class LiveSpace:
    """One Space of a test, reached as its users reach it."""

    running: RunningHub
    repo_id: str

    @property
    def api(self) -> HfApi:
        return self.running.api()

    @property
    def stage(self) -> str:
        return self.api.get_space_runtime(self.repo_id).stage

    @property
    def runtime(self) -> dict[str, Any]:
        return self.api.get_space_runtime(self.repo_id).raw

    @property
    def host(self) -> str:
        return self.api.space_info(self.repo_id).host

    @property
    def uid(self) -> str:
        row = self.running.hub.database.one(
            "SELECT uid FROM repositories WHERE name = ?", self.repo_id.split("/")[1]
        )
        return row["uid"]

    def start_mark(self) -> str:
        """Return what differs from one start of the app's process to the next."""
        return self.seen()["environment"]["TRIPTYCH_CHILD"]

    def push(self, **files: str | bytes) -> str:
        """Commit files in one commit; `__` stands for `/` and the last `_` for the dot."""
        operations = [
            CommitOperationAdd(
                _path(name), content.encode() if isinstance(content, str) else content
            )
            for name, content in files.items()
        ]
        done = self.api.create_commit(
            self.repo_id, operations, commit_message="change", repo_type="space"
        )
        return done.oid

    def until(self, *stages: str) -> dict[str, Any]:
        return wait_for(
            lambda: (now := self.runtime) and now["stage"] in stages and now, f"{stages}"
        )

    def get(self, path: str = "/", **more: Any) -> httpx.Response:
        return httpx.get(self.host + path, timeout=PATIENCE_S, trust_env=False, **more)

    def seen(self) -> dict[str, Any]:
        return self.get("/seen").json()


def _path(name: str) -> str:
    return {"app": "app.py", "readme": "README.md", "requirements": "requirements.txt"}.get(
        name, name.replace("__", "/")
    )


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

    def api(self, token: str | bool | None = None) -> HfApi:
        return HfApi(endpoint=self.url, token=self.token if token is None else token)

    def user(self) -> tuple[str, str]:
        account = create_account(self.hub.database, f"user-{secrets.token_hex(4)}")
        return account.name, create_token(self.hub.database, account, "test", "write")

    def space(self, app: str | None = PROBE, *, private: bool = False, **options: Any) -> LiveSpace:
        """Create a Space, push an app to it, and wait until the app answers."""
        repo_id = f"admin/s-{secrets.token_hex(4)}"
        self.api().create_repo(
            repo_id, repo_type="space", space_sdk="gradio", private=private, **options
        )
        space = LiveSpace(self, repo_id)
        if app is not None:
            space.push(app=app, readme=README)
            space.until("RUNNING")
        return space


@pytest.fixture(scope="session")
def start_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningHub]]:
    """Start hubs, each over a folder of its own, and stop them at the end."""
    stops: list[Callable[[], None]] = []

    def start(**settings: Any) -> RunningHub:
        root = tmp_path_factory.mktemp("hub")
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = HubConfig(root=str(root), port=port, **{"space_port": 0, **settings})
        app = create_app(config)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, date_header=False)
        )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        wait_for(lambda: server.started or not thread.is_alive(), "the hub")
        assert thread.is_alive()

        def stop() -> None:
            server.should_exit = True
            thread.join(timeout=PATIENCE_S)

        stops.append(stop)
        token = (root / "admin_token").read_text().strip()
        return RunningHub(f"http://127.0.0.1:{port}", root, app.services, token)

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def app() -> str:
    """The source of the app that tells what it sees."""
    return PROBE


@pytest.fixture(scope="session")
def running(start_hub: Callable[..., RunningHub]) -> RunningHub:
    return start_hub(space_memory_bytes=512 * 2**20, space_processes=24, space_wake_s=60)


@pytest.fixture(scope="session")
def probe(running: RunningHub) -> LiveSpace:
    """A Space many tests look at and none breaks."""
    return running.space()
