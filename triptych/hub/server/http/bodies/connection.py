"""SocketProtocol a connection's socket to who moves a large body between the network and the disk.

An event loop handles each piece of a gigabyte in Python. A thread that has the socket itself
reads into a block at a time, and the kernel sends a file by itself. `SocketProtocol` is the HTTP
protocol of the hub's server; a handler borrows through `take_socket`, and does without where that
gives nothing: another server, too little to move, or enough borrowed already.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from triptych.hub.server.storage.content.blocks import BLOCK_BYTES, new_block

LEAST_BYTES = 8 * BLOCK_BYTES
# A silent client keeps a thread no longer than this.
PATIENCE_S = 60.0
# Each takes a thread of its own; a slow client must not keep the hub's other work waiting.
MOST = 16
_EXTENSION = "triptych.connection"
_threads = ThreadPoolExecutor(MOST, thread_name_prefix="connection")


class SocketProtocol(HttpToolsProtocol):
    """Serve HTTP, and offer the connection to the handler of each request."""

    sockets_taken = 0

    def on_headers_complete(self) -> None:
        """Offer what is under the request where nothing has to be encrypted."""
        if self.scheme == "http":
            self.scope["extensions"] = {_EXTENSION: Connection(self)}  # type: ignore[dict-item]
        super().on_headers_complete()


class Connection:
    """Move one body, past the event loop."""

    def __init__(self, protocol: SocketProtocol) -> None:
        self._protocol = protocol

    async def receive(self, length: int, write: Callable[[memoryview], None]) -> None:
        """Pass a request's body of known length on, block by block.

        Raises: ClientDisconnect when the client goes before the end; what `write` raises.
        """
        protocol = self._protocol
        cycle = protocol.cycle
        protocol.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        # The parser does not see what is read past it, so this connection ends with its answer.
        cycle.keep_alive = False
        early, cycle.body, cycle.more_body = cycle.body, bytearray(), False
        async with self._socket() as under:
            await _aside(under, lambda: _pour(under, early, length, write))

    async def send(self, path: Path, start: int, length: int) -> None:
        """Send a part of a file as the body of the response that was begun."""
        protocol = self._protocol
        await asyncio.sleep(0)
        transport = protocol.transport
        # The head goes out first; no event tells of an empty buffer.
        while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        async with self._socket() as under:
            with path.open("rb", buffering=0) as file:
                sent = await _aside(under, lambda: under.sendfile(file, start, length))
        protocol.cycle.expected_content_length -= sent

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[socket.socket]:
        handle = self._protocol.transport.get_extra_info("socket").fileno()
        SocketProtocol.sockets_taken += 1
        try:
            with socket.socket(fileno=os.dup(handle)) as under:
                under.settimeout(PATIENCE_S)
                yield under
        except (ConnectionError, TimeoutError) as error:
            self._protocol.cycle.disconnected = True
            self._protocol.transport.close()
            raise ClientDisconnect from error
        finally:
            SocketProtocol.sockets_taken -= 1


def take_socket(scope: MutableMapping[str, Any], length: int) -> Connection | None:
    """Return the connection under a request for a body of this length, where that is worth it."""
    connection: Connection | None = scope.get("extensions", {}).get(_EXTENSION)
    return connection if length >= LEAST_BYTES and SocketProtocol.sockets_taken < MOST else None


async def _aside(under: socket.socket, work: Callable[[], Any]) -> Any:
    """Run work on the socket in a thread; when nobody waits for it any more, it ends."""
    running = asyncio.get_running_loop().run_in_executor(_threads, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        under.shutdown(socket.SHUT_RDWR)
        await asyncio.wait([running])
        raise


def _pour(
    under: socket.socket, early: bytearray, length: int, write: Callable[[memoryview], None]
) -> None:
    """Read a body; while one block is hashed and written, the next one fills."""
    filling, other = new_block(), new_block()
    writing: Future[None] = Future()
    writing.set_result(None)
    with ThreadPoolExecutor(1, thread_name_prefix="writing") as hand:
        while length:
            block = filling[: min(BLOCK_BYTES, length)]
            _fill(under, early, block)
            length -= len(block)
            if writing.exception() is None:  # else the rest is read in vain, to be answered after
                writing = hand.submit(write, block)
            filling, other = other, filling
    writing.result()


def _fill(under: socket.socket, early: bytearray, block: memoryview) -> None:
    filled = min(len(early), len(block))
    block[:filled] = early[:filled]
    del early[:filled]
    while filled < len(block):
        taken = under.recv_into(block[filled:])
        if not taken:
            raise ConnectionResetError("the client went before its body was complete")
        filled += taken
