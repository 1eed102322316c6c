"""Moving bytes between sockets and disk in blocks large enough to be worth a thread."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Protocol, Self

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from triptych.hub.server.storage.content.connection import BLOCK_BYTES, MOST, borrow, room

_PAGE_BYTES = 4096
_hands = ThreadPoolExecutor(MOST, thread_name_prefix="hashing")


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, block: memoryview, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all that was taken."""
        ...

    def copy(self) -> Self:
        """Return another that goes on from here."""
        ...


async def stream_into(request: Request, write: Callable[[memoryview], None]) -> None:
    """Pass a request's body on, block by block, past the event loop where that can be had."""
    announced = request.headers.get("content-length", "")
    length = int(announced) if announced.isdecimal() else 0
    connection = borrow(request.scope, length)
    if connection is not None:
        await connection.receive(length, write)
    else:
        await _stream_into(request, write)


async def _stream_into(request: Request, write: Callable[[memoryview], None]) -> None:
    """Pass a body on as the event loop gets it.

    Two blocks take turns: while one is hashed and written in a thread, the next one fills. They
    are kept, because getting memory anew for each costs more than the copying.
    """
    filling, other = room(), room()
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
        connection = borrow(scope, self._range[2])
        if connection is None or scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        with suppress(ClientDisconnect):
            await connection.send(*self._range)
            await send({"type": "http.response.body", "body": b""})


def read_file(path: Path, start: int, length: int) -> Iterator[bytes]:
    """Yield a range of a file."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while length > 0:
            block = file.read(min(BLOCK_BYTES, length))
            if not block:
                return
            length -= len(block)
            yield block


class StraightWriter:
    """Write blocks whole; large ones straight to the disk, where the file system can.

    Copying them into the page cache first costs as much time as hashing them, and the last sync
    would wait for what is still there.
    """

    def __init__(self, file: FileIO, start: int = 0, digest: Digest | None = None) -> None:
        self._file = file
        self._at = start
        self._digest = digest
        self._straight = False
        self._able = hasattr(os, "O_DIRECT")

    def write(self, block: memoryview) -> None:
        """Write all of a block, and hash it beside that where a digest was given."""
        if self._digest is None:
            self._write(block)
        elif len(block) < BLOCK_BYTES:
            self._digest.update(block)
            self._write(block)
        else:
            hashing = _hands.submit(self._digest.update, block)
            try:
                self._write(block)
            finally:
                hashing.result()

    def _write(self, block: memoryview) -> None:
        # A disk that fills up may take a part of a block without complaint.
        while block:
            self._aim(self._able and not (len(block) % BLOCK_BYTES or self._at % _PAGE_BYTES))
            try:
                taken = self._file.write(block)
            except OSError as error:
                if not self._straight or error.errno != errno.EINVAL:
                    raise
                self._able = False  # memory, place or file system do not allow it
                continue
            self._at += taken
            block = block[taken:]

    def _aim(self, straight: bool) -> None:
        """Go past the page cache from the next write on, or no longer."""
        if straight == self._straight:
            return
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags ^ os.O_DIRECT)
        except OSError:
            self._able = False
        else:
            self._straight = straight


def put_in_place(temporary: Path, target: Path) -> None:
    """Give a synced file its final name, so that the name survives power loss."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.chmod(0o444)
    temporary.replace(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
