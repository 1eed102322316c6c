"""Replies of the hot routes: JSON, a stream of events, an error, and the headers of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

from triptych.errors import TierError
from triptych.tiers.http.requests import Send
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.providers.base import Frame
from triptych.wire import lenient_json, sse
from triptych.wire import openai as shapes

Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
_SSE: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
_START = "http.response.start"
_BODY = "http.response.body"
#: What an upstream calls its model may stand in a header, but write none.
_PRINTABLE = bytes.maketrans(bytes((*range(32), 127)), b" " * 33)


class StreamWriter(Protocol):
    """Write a stream of chunks in the words of one API."""

    def take(self, frame: Frame) -> bytes:
        """Return the events for one chunk; empty where there is nothing to tell."""
        ...

    def end(self) -> bytes:
        """Return the events after the last chunk."""
        ...

    def fail(self, error: TierError) -> bytes:
        """Return the events of an error."""
        ...


class OpenAIWriter:
    """Write chunks as they are."""

    def take(self, frame: Frame) -> bytes:
        """Return the chunk."""
        return frame.wire

    def end(self) -> bytes:
        """Return OpenAI's end."""
        return sse.DONE

    def fail(self, error: TierError) -> bytes:
        """Return the error as a chunk, which OpenAI's SDK raises."""
        return sse.encode(lenient_json.dumps(error_body(error)))


class EventReply:
    """A stream of events to one client, kept alive by comments while an upstream is silent.

    The first comment begins the reply: an error after it is an event, no longer a status.
    """

    __slots__ = (
        "_beat", "_comment", "_exchange", "_interval_s", "_quiet", "_send", "_writer", "started",
    )  # fmt: skip

    def __init__(
        self, send: Send, exchange: Exchange, interval_s: float, writer: StreamWriter
    ) -> None:
        self._writer = writer
        self._send = send
        self._exchange = exchange
        self._interval_s = interval_s
        self._quiet = True
        self._comment: asyncio.Task[None] | None = None
        self.started = False
        """Whether the status line is out."""
        self._beat = asyncio.get_running_loop().call_later(interval_s, self._check)

    def _check(self) -> None:
        if self._quiet and (self._comment is None or self._comment.done()):
            self._comment = asyncio.ensure_future(self._write(sse.PING, more=True))
        self._quiet = True
        self._beat = asyncio.get_running_loop().call_later(self._interval_s, self._check)

    async def _write(self, data: bytes, *, more: bool) -> None:
        if not self.started:
            self.started = True
            headers = [*_SSE, *trace_headers(self._exchange)]
            await self._send({"type": _START, "status": 200, "headers": headers})
        await self._send({"type": _BODY, "body": data, "more_body": more})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send one piece."""
        self._quiet = False
        if self._comment is not None:
            await self._comment  # two writers never mix
            self._comment = None
        await self._write(data, more=more)

    async def fail(self, error: TierError) -> None:
        """End with an error as an event."""
        await self.write(self._writer.fail(error), more=False)

    async def forward(
        self, frames: AsyncGenerator[Frame], before_end: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Send frames as they come, and the end, with what is done between them."""
        take, send = self._writer.take, self._send
        try:
            async for frame in frames:
                if data := take(frame):
                    if self.started and self._comment is None:
                        self._quiet = False
                        await send({"type": _BODY, "body": data, "more_body": True})
                    else:
                        await self.write(data)
        except TierError as error:
            await self.fail(error)
            return
        finally:
            await frames.aclose()
        if before_end is not None:
            await before_end()
        await self.write(self._writer.end(), more=False)

    def close(self) -> None:
        """Send no more comments."""
        self._beat.cancel()
        if self._comment is not None:
            self._comment.cancel()


def trace_headers(exchange: Exchange) -> Headers:
    """Build the headers that say what really happened."""
    trace, query = exchange.trace, exchange.query
    pairs = [
        ("x-request-id", query.request_id),
        ("x-triptych-tier-asked", query.tier_asked),
        ("x-triptych-tier", trace.tier_served),
        ("x-triptych-provider", trace.provider),
        ("x-triptych-upstream", trace.upstream),
        ("x-triptych-model", trace.model),
        ("x-triptych-reason", trace.reason),
        ("x-triptych-attempts", str(len(trace.attempts))),
        ("x-triptych-overhead-ms", f"{exchange.overhead_s * 1000:.3f}"),
    ]
    if trace.revision:
        pairs.append(("x-triptych-revision", trace.revision))
    if trace.fallback_reason:
        pairs.append(("x-triptych-fallback", trace.fallback_reason))
    if trace.usage.source == "estimated":
        pairs.append(("x-triptych-tokens", "estimated"))
    if trace.evidence is not None and trace.evidence.get("refused"):
        pairs.append(("x-triptych-refused", trace.evidence["refused"]))
    if trace.cached:
        pairs.append(("x-triptych-cached", "true"))
    return [
        (name.encode(), value.encode("latin-1", "replace").translate(_PRINTABLE))
        for name, value in pairs
    ]


def error_body(error: TierError) -> dict[str, Any]:
    """Build the body of an error in OpenAI's shape."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return shapes.error(message, status=error.status, code=error.code, param=error.param)


async def send_error(
    send: Send,
    error: TierError,
    exchange: Exchange | None = None,
    shape: Callable[[TierError], dict[str, Any]] = error_body,
) -> None:
    """Answer with an error; our retries are spent, so a header asks clients not to retry."""
    headers: Headers = [JSON, *(trace_headers(exchange) if exchange else ())]
    if error.status in (408, 409, 429) or error.status >= 500:
        headers.append((b"x-should-retry", b"false"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    await send_body(send, error.status, headers, lenient_json.dumps(shape(error)))


async def send_json(send: Send, status: int, body: Any) -> None:
    """Answer with JSON."""
    await send_body(send, status, [JSON], lenient_json.dumps(body))


async def send_body(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Answer with bytes."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": _START, "status": status, "headers": [*headers, length]})
    await send({"type": _BODY, "body": body})
