"""Requests as the hot routes read them: body, headers, and the client's disconnect."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from triptych.errors import InvalidQuery, TierError, TooLarge
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.rules.query import Query
from triptych.wire import compression

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_UNWATCHED_S = 0.03
_FIELDS = {
    b"x-triptych-user": "user_id",
    b"x-triptych-company": "company_id",
    b"x-triptych-feature": "feature",
    b"x-triptych-conversation": "conversation_id",
    b"traceparent": "traceparent",
}


class Disconnected(Exception):
    """The client went away."""


class Request:
    """The few things a hot handler needs from an ASGI scope."""

    __slots__ = ("_receive", "error_shape", "exchange", "headers", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.error_shape: Callable[[TierError], dict[str, Any]] | None = None
        """How the API of this request writes an error; None: as OpenAI does."""
        self.exchange: Exchange | None = None
        """Set once there is a record of the request."""

    def header(self, name: bytes) -> str:
        """Return a header's text, empty when absent."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def authorization(self) -> str:
        """Return the key as `Bearer ...`, also where Azure's or Anthropic's clients put it."""
        if given := self.headers.get(b"authorization"):
            return given.decode("latin-1")
        key = self.headers.get(b"x-api-key") or self.headers.get(b"api-key")
        return f"Bearer {key.decode('latin-1')}" if key else ""

    @property
    def is_json(self) -> bool:
        """Whether there is no body, or one that says it is JSON."""
        kind = self.headers.get(b"content-type", b"")
        return self.scope["method"] == "GET" or kind.startswith(b"application/json")

    @property
    def address(self) -> str:
        """Return the caller's address."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def unpack(self, max_bytes: int) -> Receive:
        """Read the body unpacked from here on; what unpacks to more is refused.

        Returns: what hands it out, for those who read it themselves.
        """
        encoding = compression.encoding_of(self.scope["headers"])
        if not encoding:
            return self._receive
        inner = compression.unpacked(self._receive, encoding, max_bytes)

        async def receive() -> dict[str, Any]:
            try:
                message: dict[str, Any] = await inner()
            except compression.CompressionFault as fault:
                if fault.status == 413:
                    raise TooLarge(str(fault)) from fault
                raise InvalidQuery(str(fault), status=fault.status) from fault
            return message

        self._receive = receive
        return receive

    async def body(self, max_bytes: int) -> bytes:
        """Read the whole body.

        Raises: TooLarge, Disconnected.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part = message.get("body", b"")
            size += len(part)
            if size > max_bytes:
                raise TooLarge(f"the body is larger than {max_bytes} bytes")
            if not message.get("more_body"):
                return part if not parts else b"".join([*parts, part])
            parts.append(part)

    async def disconnected(self) -> None:
        """Return when the client goes away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class DisconnectWatch:
    """Cancel the task that works for a client when the client goes away.

    The watch begins after a moment: most answers are sent before, and need no task for it.
    """

    __slots__ = ("_request", "_timer", "_watching", "_worker", "left")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._worker = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, self._begin)
        self.left = False
        """Whether the client went away."""

    def _begin(self) -> None:
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        await self._request.disconnected()
        self.left = True
        if self._worker is not None:
            self._worker.cancel()

    def end(self) -> None:
        """Stop the watch; a cancellation of ours is taken back."""
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if self.left and self._worker is not None:
            self._worker.uncancel()


def with_headers(query: Query, request: Request) -> Query:
    """Return the query with what its headers name: tier, user, company, conversation, trace ..."""
    headers = request.headers
    found: dict[str, Any] = {}
    if tier := headers.get(b"x-triptych-tier"):
        found["tier_asked"] = tier.decode("latin-1")[:16]
        found["explicit"] = "header"
    for name, field in _FIELDS.items():
        if value := headers.get(name):
            found[field] = value.decode("latin-1")[:64]
    if not found:
        return query
    return dataclasses.replace(query, **found)
