"""How a worker speaks HTTP/1.1: uvicorn's protocol, with an answer's head and first piece as one.

A connection that is one too many, or that does not send its request in time, is closed.

Written apart they are two system calls here and two wake-ups at the client, which is a tenth of
what the gateway adds to a short answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from triptych.tiers.rules.connections import ConnectionLimits

#: Heads that a body follows; `100 Continue` is not one.
_FINAL = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")


class Held:
    """A transport that keeps an answer's head until there is something to send with it."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Send what was held together with this, or hold this when it is a head."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.endswith(b"\r\n\r\n") and data.startswith(_FINAL):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send what was held: an answer may be a head alone."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Send what was held and close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's protocol over such a transport, with bounds for its connections."""

    limits: ConnectionLimits
    """Set by `limited`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, or close it."""
        self._held = Held(transport)
        self._timer: asyncio.TimerHandle | None = None
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._admitted = self.limits.admit(self._address)
        super().connection_made(self._held)  # type: ignore[arg-type]
        if not self._admitted:
            transport.abort()
            return
        self._expect_within(self.limits.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        self._expect_nothing()
        if self._admitted:
            self._admitted = False
            self.limits.release(self._address)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request: its head must be whole in time."""
        super().on_message_begin()
        self._expect_within(self.limits.header_timeout_s)

    def on_headers_complete(self) -> None:
        """Begin a body: it must be whole in time."""
        super().on_headers_complete()
        self._expect_within(self.limits.body_timeout_s)

    def on_message_complete(self) -> None:
        """End a request: how long its answer takes is no matter of the client's."""
        self._expect_nothing()
        super().on_message_complete()

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.limits.timed_out += 1
        self._held.abort()

    def on_response_complete(self) -> None:
        """End an answer."""
        self._held.flush()
        super().on_response_complete()


def limited(limits: ConnectionLimits) -> type[HttpProtocol]:
    """Return the protocol with the limits that all connections of a worker share."""
    return type("LimitedProtocol", (HttpProtocol,), {"limits": limits})
