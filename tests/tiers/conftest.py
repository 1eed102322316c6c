"""A real gateway on a real port, and real upstreams on loopback that can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import uvicorn
from aiohttp import web
from openai import AsyncOpenAI
from people import People
from real_servers import postgres, redis_url  # noqa: F401  fixtures
from sqlalchemy import select

from triptych.config.gateway import GatewayConfig, UpstreamConfig
from triptych.tiers.api import Gateway
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.store import accounts, migrations, tables
from triptych.tiers.store import flags as flag_store
from triptych.tiers.store.database import Database, across
from triptych.tiers.workers import options

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
EVERYTHING = across("a test looks at everything")


def completion(text: str, model: str = "fake", **extra: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "system_fingerprint": "sha-fake",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        **extra,
    }


def chunks(text: str, model: str = "fake", *, usage: bool = False) -> list[dict[str, Any]]:
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
    found: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    ]
    for piece in text.split(" "):
        delta = {"content": piece + " "}
        found.append({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    found.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        counted = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        found.append({**base, "choices": [], "usage": counted})
    return found


async def sse(request: web.Request, pieces: list[bytes], pause_s: float = 0) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
        if pause_s:
            await asyncio.sleep(pause_s)
    return response


class FakeUpstream:
    """An OpenAI-compatible server, or a Space, that does what it is told."""

    def __init__(self, text: str = "fine") -> None:
        self.text = text
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.behaviour: Behaviour | None = None
        self.open = 0
        self.closed_early = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    @property
    def calls(self) -> int:
        """Requests other than the GETs by which a dialect is found."""
        return sum(1 for path, _ in self.requests if not path.startswith("GET"))

    async def start(self) -> FakeUpstream:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.raw.append(raw)
        body = json.loads(raw) if raw else {}
        self.requests.append((f"{request.method} {request.path}".removeprefix("POST "), body))
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        self.open += 1
        try:
            return await (self.behaviour or self.answer)(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.closed_early += 1
            raise
        finally:
            self.open -= 1

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": "fake"}]})
        if request.path == "/health":
            return web.json_response({"status": "ok", "revision": "sha-fake"})
        if not request.path.endswith("/chat/completions"):
            return web.json_response({"error": {"message": "no route"}}, status=404)
        if not body.get("stream"):
            return web.json_response(completion(self.text, body.get("model", "")))
        wants = bool((body.get("stream_options") or {}).get("include_usage"))
        pieces = [b"data: " + orjson.dumps(c) + b"\n\n" for c in chunks(self.text, usage=wants)]
        return await sse(request, [*pieces, b"data: [DONE]\n\n"])


class RunningGateway:
    """One worker of the gateway inside the test's own loop, on a real port."""

    def __init__(self, config: GatewayConfig, home: Path) -> None:
        self.config = config
        self.home = home
        self.runtime = Runtime(config, home=home)
        self.app = Gateway(self.runtime)
        self.database = self.runtime.database
        self.key = ""
        self.url = ""
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> RunningGateway:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(options(self.app, timeout_graceful_shutdown=5))
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            await asyncio.sleep(0.005)
            if self._task.done():
                self._task.result()
        if not self.key:
            self.key = await accounts.create_key(
                self.database, name="test", kind="service", role="admin", actor="test"
            )
            await self.runtime.refresh()
        return self

    async def stop(self) -> None:
        if self._server and self._task:
            self._server.should_exit = True
            await self._task
            self._task = None

    def sdk(self, key: str | None = None, **options: Any) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, **options
        )

    async def set(self, **flags: Any) -> None:
        """Set flags; `tier_base` stands for `tier.base`."""
        for name, value in flags.items():
            key = name.replace("__", ".")
            await flag_store.set_flag(self.database, key, value, actor="test")
        await self.runtime.refresh()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        sent = {"authorization": f"Bearer {self.key}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, json=body, headers=sent) as response,
        ):
            raw = await response.read()
            answer = orjson.loads(raw) if raw[:1] in b"{[" else raw
            return response.status, answer, {k.lower(): v for k, v in response.headers.items()}

    async def ready(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(self.url + "/ready") as got:
            return orjson.loads(await got.read())

    async def records(self) -> list[dict[str, Any]]:
        while await self.runtime.recorder.flush():
            pass
        async with self.database.read(EVERYTHING) as connection:
            return await connection.all(
                select(tables.requests).order_by(tables.requests.c.created_at)
            )

    async def attempts(self, request_id: str) -> list[dict[str, Any]]:
        async with self.database.read(EVERYTHING) as connection:
            return await connection.all(
                select(tables.attempts)
                .where(tables.attempts.c.request_id == request_id)
                .order_by(tables.attempts.c.number)
            )


class Workshop:
    """Start gateways and upstreams; everything is stopped when the test ends."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._stack = AsyncExitStack()
        self.UpstreamConfig = UpstreamConfig
        self.completion = completion
        self.chunks = chunks
        self.sse = sse

    async def upstream(self, text: str = "fine") -> FakeUpstream:
        upstream = await FakeUpstream(text).start()
        self._stack.push_async_callback(upstream.stop)
        return upstream

    async def gateway(
        self, upstreams: dict[str, UpstreamConfig] | None = None, key: str = "", **settings: Any
    ) -> RunningGateway:
        settings.setdefault("limit_service", 1_000_000)
        settings.setdefault("limit_wrong_keys", 1_000_000)
        settings.setdefault("retry_base_s", 0.01)
        config = GatewayConfig(upstreams=upstreams or {}, **settings)
        gateway = RunningGateway(config, self.home)
        gateway.key = key
        await gateway.start()
        self._stack.push_async_callback(gateway.stop)
        return gateway

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one database, so that each test only copies it."""
    path = tmp_path_factory.mktemp("template") / "gateway.db"

    async def migrate() -> None:
        database = Database(f"sqlite:///{path}")
        await migrations.upgrade(database)
        await database.close()

    asyncio.run(migrate())
    return path


@pytest.fixture
async def workshop(own_home: Path, migrated: Path) -> AsyncIterator[Workshop]:
    own_home.mkdir(parents=True, exist_ok=True)
    shutil.copy(migrated, own_home / "gateway.db")
    shop = Workshop(own_home)
    yield shop
    await shop.close()


@pytest.fixture
def openai_and_space() -> Iterator[Callable[[FakeUpstream, FakeUpstream], dict[str, Any]]]:
    """Declare one OpenAI-compatible upstream and one Space, both for all tiers."""

    def declare(openai: FakeUpstream, space: FakeUpstream) -> dict[str, Any]:
        tiers = {"base": "m", "company": "m", "abstraction": "m"}
        return {
            "openai": UpstreamConfig("openai", f"{openai.url}/v1", tiers),
            "space": UpstreamConfig("hf_spaces", space.url, tiers),
        }

    yield declare


@pytest.fixture
async def people(workshop) -> People:
    gateway = await workshop.gateway(
        {"script": UpstreamConfig("scripted", "", {"base": "echo", "company": "say-company"})}
    )
    await gateway.set(provider__scripted=True, real_ai_only=False, tier__company=True)
    return await People(gateway).settle()


@pytest.fixture
async def place(workshop):
    """Hand out a function that starts a gateway before one upstream of our own."""

    async def start(provider: str = "local", **settings: Any) -> Any:
        upstream = await workshop.upstream("fine")
        more = {n: settings.pop(n) for n in list(settings) if n in UpstreamConfig.__annotations__}
        config = UpstreamConfig(provider, f"{upstream.url}/v1", {"base": "m", "m": "m"}, **more)
        return upstream, await workshop.gateway({"up": config}, **settings)

    return start
