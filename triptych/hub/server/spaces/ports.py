"""An address for each Space: a port of its own, kept for good, listened on by the hub.

A port makes an origin of its own in every browser, and needs no name service. Where one is
there, `hub.space_domain` gives every Space a host name instead (`by_host`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from triptych.errors import ProcessError
from triptych.processes import bind

log = logging.getLogger(__name__)
PORTS = 5_000


def listen(host: str, remembered: int | None, first: int, others: set[int]) -> socket.socket:
    """Take a Space's own port again, or the next one that is free and not another Space's.

    Raises: ProcessError when no port is free.
    """
    if remembered is not None:
        try:
            return bind(host, remembered)
        except ProcessError as error:
            log.warning("a Space has to move from its port: %s", error.message)
    for port in range(first, min(first + PORTS, 65536)):
        if port and port in others:
            continue
        try:
            return bind(host, port)
        except ProcessError as error:
            if error.code != "port_taken":
                raise
    raise ProcessError("no port is free for a Space", hint="set hub.space_port to a free range")


class _Server(uvicorn.Server):
    """Serve beside the hub's own server, which alone listens to signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class SpaceServer:
    """Listen on one port for one Space."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        self.port: int = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=30,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def close(self) -> None:
        """Stop answering and let the port go."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._listener.close()


class ByHost:
    """Send requests for a Space's host name to its proxy, and all others to the hub."""

    def __init__(self, hub: ASGIApp, proxies: Mapping[str, ASGIApp]) -> None:
        self.hub = hub
        self.proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose by the Host header."""
        proxy = None
        if self.proxies and scope["type"] in ("http", "websocket"):
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            proxy = self.proxies.get(host.partition(":")[0].lower())
        await (proxy or self.hub)(scope, receive, send)
