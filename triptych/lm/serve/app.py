"""Build the model server: routes, errors, token, limits; and run it until a signal stops it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from triptych import __version__
from triptych.config.environment import Secret
from triptych.errors import TriptychError
from triptych.lm.generate.native import share_one_heap
from triptych.lm.serve import embeddings_api, generate_api, http, openai_api, status_api
from triptych.lm.serve.service import ModelService


def create_app(service: ModelService, *, token: Secret | None = None) -> FastAPI:
    """Build the application that serves the models; the first one loads as the app starts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        first = next(iter(service.models.values()))
        loading = asyncio.ensure_future(_preload(service, first.name))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await asyncio.to_thread(service.close)

    # The usual documentation pages load scripts from elsewhere; the schema itself stays.
    app = FastAPI(
        title="Triptych model",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for part in (openai_api, embeddings_api, generate_api, status_api):
        app.include_router(part.routes(service))
    app.add_exception_handler(TriptychError, http.on_triptych_error)
    app.add_exception_handler(RequestValidationError, http.on_invalid_request)
    app.add_exception_handler(HTTPException, http.on_http_error)
    app.add_middleware(http.BodyLimit, max_bytes=service.config.max_body_bytes)
    app.add_middleware(http.BearerToken, token=token)
    if origins := service.config.cors_origins:
        # Outermost: a browser asks for leave without the token.
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["*"],
        )  # fmt: skip
    return app


async def _preload(service: ModelService, name: str) -> None:
    try:
        await _load(service, name)
    except TriptychError as error:
        # The next request tries again and gets the error; until then /health shows it.
        service.failures[name] = error.message
        print(f"{name} does not load: {error}", file=sys.stderr)


async def _load(service: ModelService, name: str) -> None:
    with await service.lease(service.models[name]) as engine:
        if engine.info.has_chat_template:
            # The first template costs its library's import; no client should wait for that.
            await asyncio.to_thread(engine.encode, [{"role": "user", "content": "a"}])


def run_app(app: FastAPI, listener: socket.socket, *, drain_s: float) -> None:
    """Serve until SIGTERM or SIGINT, then let running answers finish for `drain_s` seconds."""
    import uvicorn

    share_one_heap()
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=round(drain_s),
        server_header=False,
    )
    # uvicorn raises the signal again once it has drained; a drained server has ended well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run(sockets=[listener])
