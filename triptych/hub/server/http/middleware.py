"""The Date of an answer, exact to the second.

Clients that fetch a log without following it stop at the first line younger than the answer's
Date. Servers that refresh that header once a second can be late by one, and new lines are lost.
"""

from __future__ import annotations

import time
from email.utils import formatdate

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
