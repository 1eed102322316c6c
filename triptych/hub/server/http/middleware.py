"""Around every request: the names the hub answers to, the raw path, an exact Date.

Clients that fetch a log without following it stop at the first line younger than the answer's
Date. Servers that refresh that header once a second can be late by one, and new lines are lost.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triptych.config.hub import HubConfig
from triptych.hub.server.http.call import Services


class ExactDate:
    """Put the present Date on every answer; the server underneath leaves it out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(time.time(), usegmt=True).encode()
                message["headers"] = [*message["headers"], (b"date", date)]
            await send(message)

        await self.app(scope, receive, dated if scope["type"] == "http" else send)


class OwnNames:
    """Answer only to the hub's own names where it listens on loopback.

    Any web page can lead a name of its own to this machine (DNS rebinding) and would then read
    what is public here. An address in digits cannot be led anywhere.
    """

    def __init__(self, app: ASGIApp, config: HubConfig) -> None:
        self.app = app
        public = urlsplit(config.public_url).hostname or "localhost"
        domain = config.space_domain.partition(":")[0].lower()
        self._names = {"localhost", public, domain} - {""}
        self._domains = tuple({".localhost", f".{domain}" if domain else ".localhost"})
        # A domain of Spaces means a proxy in front, whose own name only `public_url` tells.
        named = bool(config.public_url) or not config.space_domain
        self._checks = named and (config.host == "localhost" or is_loopback(config.host))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 421 (misdirected request)."""
        if not self._checks or scope["type"] not in ("http", "websocket") or self._is_own(scope):
            await self.app(scope, receive, send)
            return
        words = {"error": "This hub has another name; set hub.public_url to the one you use"}
        await JSONResponse(words, status_code=421)(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        sent = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
        host = sent.rpartition(":")[0] if re.search(r":\d*$", sent) else sent
        try:
            ip_address(host.strip("[]"))
        except ValueError:
            return host in self._names or host.endswith(self._domains)
        return True


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is of this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class RawPath:
    """Let routes match the path as it was sent, so that an encoded slash stays one segment."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its raw path."""
        if scope["type"] in ("http", "websocket") and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].split(b"?")[0].decode("latin-1")}
        await self.app(scope, receive, send)
