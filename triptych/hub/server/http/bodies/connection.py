"""A thread takes the socket of a connection to move a large body between network and disk.

An event loop handles each piece of a gigabyte in Python. A thread that has the socket itself
reads into one block at a time, and the kernel sends a file by itself. `SocketProtocol` is the
HTTP protocol of the hub's server; a handler calls `take_socket`, and uses the event loop where
that returns None: another server, a small body, or too many sockets taken already.

The event loop still owns the connection: the thread works on a duplicate of the file descriptor,
which is closed afterwards, so the loop's own never is. Each side stops before the other starts:
to receive, the loop pauses reading and the thread first uses what the parser has read already; to
send, the loop's write buffer must be empty. This relies on uvicorn's `cycle`, `flow` and
`expected_content_length`; `tests/hub/server/test_connection.py` fails where they change.
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
    """Serve HTTP, and put the connection into the scope of each request for `take_socket`."""

    sockets_taken = 0

    def on_headers_complete(self) -> None:
        """Put the connection into the scope; over TLS the socket carries encrypted bytes."""
        if self.scheme == "http":
            self.scope["extensions"] = {_EXTENSION: Connection(self)}  # type: ignore[dict-item]
        super().on_headers_complete()


class Connection:
    """Move one body between a socket and a file, without the event loop."""

    def __init__(self, protocol: SocketProtocol) -> None:
        self._protocol = protocol

    async def receive(self, length: int, write: Callable[[memoryview], None]) -> None:
        """Read a request's body of known length and write it, block by block.

        Raises: ClientDisconnect when the client goes before the end; what `write` raises.
        """
        protocol = self._protocol
        cycle = protocol.cycle
        protocol.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        # The parser does not see what the thread reads, so it could not find the next request:
        # the connection closes after this response.
        cycle.keep_alive = False
        early, cycle.body, cycle.more_body = cycle.body, bytearray(), False
        async with self._socket() as under:
            await _in_thread(under, lambda: _pour(under, early, length, write))

    async def send(self, path: Path, start: int, length: int) -> None:
        """Send a part of a file as the body of the response that was begun."""
        protocol = self._protocol
        await asyncio.sleep(0)
        transport = protocol.transport
        # The response's head must leave before the file does; asyncio has no event for an empty
        # write buffer.
        while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        async with self._socket() as under:
            with path.open("rb", buffering=0) as file:
                sent = await _in_thread(under, lambda: under.sendfile(file, start, length))
        # uvicorn compares Content-Length with what it sent itself; the rest went past it.
        protocol.cycle.expected_content_length -= sent

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[socket.socket]:
        handle = self._protocol.transport.get_extra_info("socket").fileno()
        SocketProtocol.sockets_taken += 1
        try:
            # A duplicate: closing it leaves the event loop's descriptor open.
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
    """Return the connection of a request with a body of this length; None: use the event loop."""
    connection: Connection | None = scope.get("extensions", {}).get(_EXTENSION)
    return connection if length >= LEAST_BYTES and SocketProtocol.sockets_taken < MOST else None


async def _in_thread(under: socket.socket, work: Callable[[], Any]) -> Any:
    """Run work on the socket in a thread; when its caller is cancelled, it ends."""
    running = asyncio.get_running_loop().run_in_executor(_threads, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # The thread cannot be cancelled; a closed socket ends its blocking call.
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
            if writing.exception() is None:  # else read to the end: clients read the answer after
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
