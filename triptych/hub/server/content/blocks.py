"""Moving bytes between sockets and disk in blocks large enough to be worth a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio.to_thread
from starlette.requests import Request

BLOCK_BYTES = 2**20


async def stream_into(request: Request, write: Callable[[memoryview], None]) -> None:
    """Pass a request's body on, block by block.

    Two blocks take turns: while one is hashed and written in a thread, the next one fills. They
    are kept, because getting memory anew for each costs more than the copying.
    """
    filling, other = memoryview(bytearray(BLOCK_BYTES)), memoryview(bytearray(BLOCK_BYTES))
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
