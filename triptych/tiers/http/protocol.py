"""How a worker speaks HTTP/1.1: uvicorn's protocol, with an answer's head and first piece as one.

Written apart they are two system calls here and two wake-ups at the client, which is a tenth of
what the gateway adds to a short answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
    """Uvicorn's protocol over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        self._held = Held(transport)
        super().connection_made(self._held)  # type: ignore[arg-type]

    def on_response_complete(self) -> None:
        """End an answer."""
        self._held.flush()
        super().on_response_complete()
