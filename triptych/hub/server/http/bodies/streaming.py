"""Request bodies written block by block, and file ranges sent as responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from triptych.hub.server.http.bodies.connection import take_socket
from triptych.hub.server.storage.content.blocks import BLOCK_BYTES, new_block, read_file


async def stream_into(request: Request, write: Callable[[memoryview], None]) -> None:
    """Pass a request's body on, block by block, past the event loop where that can be had."""
    announced = request.headers.get("content-length", "")
    length = int(announced) if announced.isdecimal() else 0
    connection = take_socket(request.scope, length)
    if connection is not None:
        await connection.receive(length, write)
    else:
        await _stream_into(request, write)


async def _stream_into(request: Request, write: Callable[[memoryview], None]) -> None:
    """Pass a body on as the event loop gets it.

    Two blocks take turns: while one is hashed and written in a thread, the next one fills. They
    are kept, because getting memory anew for each costs more than the copying.
    """
    filling, other = new_block(), new_block()
    filled = 0
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in request.stream():
            left = memoryview(chunk)
            while left:
                taken = min(len(left), BLOCK_BYTES - filled)
                filling[filled : filled + taken] = left[:taken]
                filled += taken
                left = left[taken:]
                if filled == BLOCK_BYTES:
                    if writing is not None:
                        await writing
                    writing = asyncio.ensure_future(anyio.to_thread.run_sync(write, filling))
                    filling, other = other, filling
                    filled = 0
        if writing is not None:
            await writing
        await anyio.to_thread.run_sync(write, filling[:filled])
    finally:
        if writing is not None and not writing.done():
            await asyncio.wait([writing])


async def threaded(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Draw blocks from a blocking source, one at a time."""
    while True:
        block = await anyio.to_thread.run_sync(next, blocks, None)
        if block is None:
            return
        yield block


class FileResponse(StreamingResponse):
    """Send a range of a file, by the kernel alone where the connection can be had."""

    def __init__(self, path: Path, start: int, length: int, **more: Any) -> None:
        super().__init__(threaded(read_file(path, start, length)), **more)
        self.headers["Content-Length"] = str(length)
        self._range = path, start, length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        connection = take_socket(scope, self._range[2])
        if connection is None or scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        with suppress(ClientDisconnect):
            await connection.send(*self._range)
            await send({"type": "http.response.body", "body": b""})
