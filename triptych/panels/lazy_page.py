"""A page that is built when it is first opened.

A process that mostly answers programs starts in a third of the time and takes half the memory
until then: building the page loads Gradio.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from triptych.errors import TriptychError

#: Gradio's clients ask for this first, and give up after five seconds without a byte.
ASKED_FIRST = "/config"
SIGN_OF_LIFE_S = 2.0

Drawing = asyncio.Task[FastAPI]


class LazyPage:
    """Builds a page in a thread at the first visit, and passes every later request to it.

    A program that requests the bare address, as a hub does that waits for an app, is no visit: it
    gets the greeting. A page that could not be built answers 503 with the reason, and is built
    again at the next visit.
    """

    def __init__(self, draw: Callable[[], FastAPI], greeting: str) -> None:
        self._draw = draw
        self._greeting = greeting
        self._drawing: Drawing | None = None
        self._lives = AsyncExitStack()

    def join(self, app: FastAPI) -> None:
        """Take every request that no route of the application takes, for the application's life."""
        lifespan = app.router.lifespan_context

        @asynccontextmanager
        async def together(whole: FastAPI) -> AsyncIterator[None]:
            async with lifespan(whole), self._lives:
                yield

        app.router.lifespan_context = together
        app.mount("/", self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["path"] == "/" and "text/html" not in Headers(scope=scope).get("accept", ""):
            await PlainTextResponse(self._greeting)(scope, receive, send)
            return
        if self._drawing is None:
            self._drawing = asyncio.create_task(self._begin())
        drawing = self._drawing
        if scope["path"] == ASKED_FIRST:
            scope, send = await _hold(drawing, scope, send)
        try:
            page = await asyncio.shield(
                drawing
            )  # one cancelled request does not cancel it for others
        except Exception as error:  # boundary: the request handler
            if self._drawing is drawing:
                self._drawing = None
                traceback.print_exception(error)
            await _refusal(error)(scope, receive, send)
            return
        await page(scope, receive, send)

    async def _begin(self) -> FastAPI:
        page = await asyncio.to_thread(self._draw)
        await self._lives.enter_async_context(page.router.lifespan_context(page))
        return page


async def _hold(drawing: Drawing, scope: Scope, send: Send) -> tuple[Scope, Send]:
    """Keep a client waiting for JSON while the page is built: JSON allows spaces before it.

    Returns: what to go on with; once a space was sent, only the body of the answer follows.
    """
    held = False
    while not (await asyncio.wait((drawing,), timeout=SIGN_OF_LIFE_S))[0]:
        if not held:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        held = True
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
    if not held:
        return scope, send

    async def send_body(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send(message)

    plain = {**scope, "headers": list(scope["headers"])}
    del MutableHeaders(scope=plain)["accept-encoding"]  # the answer was begun without one
    return plain, send_body


def _refusal(error: Exception) -> Response:
    # A library's message may contain paths of this machine; its class is enough, the log has more.
    words = str(error) if isinstance(error, TriptychError) else type(error).__name__
    return PlainTextResponse(
        f"This page could not be built ({words}). Reload to try again; the log has the details.",
        status_code=503,
        headers={"retry-after": "1"},
    )
