"""A page that is drawn when somebody first looks at it.

A process that mostly answers programs starts in a third of the time and takes half the memory
while nobody has looked: drawing loads Gradio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send


class LatePage:
    """Draw a page in a thread at the first look, and hand it every request from then on.

    A program that asks for the bare address, as a hub does that waits for an app, is no such look:
    it hears the greeting.
    """

    def __init__(self, draw: Callable[[], FastAPI], greeting: str) -> None:
        self._draw = draw
        self._greeting = greeting
        self._page: asyncio.Task[FastAPI] | None = None
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
        if self._page is None:
            self._page = asyncio.create_task(self._begin())
        page = await asyncio.shield(self._page)  # whoever leaves does not spoil it for others
        await page(scope, receive, send)

    async def _begin(self) -> FastAPI:
        page = await asyncio.to_thread(self._draw)
        await self._lives.enter_async_context(page.router.lifespan_context(page))
        return page
