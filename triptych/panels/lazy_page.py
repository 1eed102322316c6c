"""A page that is drawn when somebody first looks at it.

A process that mostly answers programs starts in a third of the time and takes half the memory
while nobody has looked: drawing loads Gradio.
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
    """Draw a page in a thread at the first look, and hand it every request from then on.

    A program that asks for the bare address, as a hub does that waits for an app, is no such look:
    it hears the greeting. A page that could not be drawn says why, and is drawn again at the next
    look.
    """

    def __init__(self, draw: Callable[[], FastAPI], greeting: str) -> None:
        self._draw = draw
        self._greeting = greeting
        self._drawing: Drawing | None = None
        self._lives = AsyncExitStack()

    def join(self, app: FastAPI) -> None:
        """Take whatever no route of the application takes, and live as long as it does."""
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
            page = await asyncio.shield(drawing)  # whoever leaves does not spoil it for others
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
    """Keep a client that waits for JSON while the page is drawn: spaces before it mean nothing.

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
    # What a library says may name places of this machine; its kind is enough, the log has the rest.
    words = str(error) if isinstance(error, TriptychError) else type(error).__name__
    return PlainTextResponse(
        f"This page could not be drawn ({words}). The next look draws it again; the log says more.",
        status_code=503,
        headers={"retry-after": "1"},
    )
