"""The gateway's HTTP routes; what they do is in `service`.

The paths of every request (`/v1/...`, `/api/query`, `/health`, `/metrics`) are a dictionary of
plain ASGI handlers; the rarely used ones (`admin`) are Starlette's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

import orjson

from triptych.errors import Forbidden, InvalidQuery, TierError, TooLarge
from triptych.tiers.admin.routing import application
from triptych.tiers.admin.table import TABLE
from triptych.tiers.http import bodies
from triptych.tiers.pipeline import telemetry
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.pipeline.service import LLMService, body_bytes, new_request_id
from triptych.tiers.providers.base import Frame
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.query import Query
from triptych.wire import openai as shapes
from triptych.wire import sse
from triptych.wire.tiers import TIERS

logger = logging.getLogger("triptych.gateway")

T = TypeVar("T")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[["Request", Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_SSE: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
_START = "http.response.start"
_BODY = "http.response.body"
_UNWATCHED_S = 0.03
#: What an upstream calls its model may stand in a header, but write none.
_PRINTABLE = bytes.maketrans(bytes((*range(32), 127)), b" " * 33)


class Disconnected(Exception):
    """The client went away."""


class Request:
    """The few things a hot handler needs from an ASGI scope."""

    __slots__ = ("_receive", "exchange", "headers", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.exchange: Exchange | None = None
        """Set once there is a record of the request."""

    def header(self, name: bytes) -> str:
        """Return a header's text, empty when absent."""
        return self.headers.get(name, b"").decode("latin-1")

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


class Gateway:
    """The ASGI application of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.service = LLMService(runtime)
        self._rest = application(TABLE, runtime, self.service)
        self._hot: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completions,
            ("POST", "/api/query"): self._query,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/ready"): self._ready,
            ("GET", "/metrics"): self._metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        handler = self._hot.get((method, scope["path"]))
        request = Request(scope, receive)
        try:
            if handler is None:
                await self._rest(scope, receive, cast(Any, send))
            else:
                await handler(request, send)
        except TierError as error:
            if request.exchange is None:
                self.runtime.metrics.refuse(error.code)
            await send_error(send, error, request.exchange)
        except Disconnected:
            logger.debug("a client went away")
        except Exception:  # boundary: the request handler
            logger.exception("a request failed inside the gateway")
            with contextlib.suppress(RuntimeError):  # an answer had begun: it ends here
                await _send_json(
                    send, 500, shapes.error("the gateway failed; the log says why", status=500)
                )
        finally:
            if request.exchange is not None:
                request.exchange.finish("cancelled", 499, error_code="cancelled")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.runtime.open()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.runtime.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # -- handlers --------------------------------------------------------------------------------

    async def _chat(self, request: Request, send: Send) -> None:
        principal = await self._admit(request)
        config = self.runtime.config
        body = bodies.load(await request.body(config.max_body_bytes))
        query = bodies.chat(body, new_request_id(), system_allowed=config.allow_client_system)
        await self._answer(request, send, query, principal)

    async def _completions(self, request: Request, send: Send) -> None:
        principal = await self._admit(request)
        body = bodies.load(await request.body(self.runtime.config.max_body_bytes))
        query = bodies.text(body, new_request_id())
        await self._answer(request, send, query, principal)

    async def _query(self, request: Request, send: Send) -> None:
        principal = await self._admit(request)
        body = bodies.load(await request.body(self.runtime.config.max_body_bytes))
        query = bodies.original(body, new_request_id())
        _assert_user(query.user_id, principal)
        if query.stream:
            await self._answer(request, send, query, principal)
            return
        exchange = request.exchange = self.service.begin(query, principal)
        completion = await self._watched(request, self.service.whole(exchange))
        trace = exchange.trace
        answer = {
            "content": shapes.answer_text(completion.body),
            "role": "assistant",
            "request_id": query.request_id,
            "tier_requested": query.tier_asked,
            "tier_served": trace.tier_served,
            "provider": trace.provider,
            "model_id": trace.model,
            "revision": trace.revision,
            "reason": trace.reason,
            "fallback_reason": trace.fallback_reason or None,
            "context_applied": list(trace.context_applied),
            "usage": {
                "input_tokens": trace.usage.input_tokens,
                "output_tokens": trace.usage.output_tokens,
                "estimated": trace.usage.source != "provider",
            },
            "latency_ms": round(exchange.latency_s * 1000, 3),
            "cached": trace.cached,
            "truncated_messages": trace.truncated_messages,
            "finish_reason": trace.finish_reason,
        }
        await _send(send, 200, [_JSON, *_trace_headers(exchange)], orjson.dumps(answer))

    async def _models(self, request: Request, send: Send) -> None:
        await self._admit(request)
        names = (*TIERS, "auto", *self.runtime.selector.catalogue.model_names())
        cards = [shapes.model_card(name) for name in names]
        await _send_json(send, 200, shapes.model_list(cards))

    async def _health(self, request: Request, send: Send) -> None:
        await _send_json(send, 200, {"status": "ok"})

    async def _ready(self, request: Request, send: Send) -> None:
        ready = self.runtime.ready
        state = {
            "status": "ready" if ready else "starting",
            "settings": "stale" if self.runtime.flags.stale else "fresh",
            "flags_version": self.runtime.flags.version,
            "spool_bytes": self.runtime.recorder.spool.backlog_bytes,
            "records_lost": self.runtime.recorder.spool.lost,
        }
        await _send_json(send, 200 if ready else 503, state)

    async def _metrics(self, request: Request, send: Send) -> None:
        kind = (b"content-type", telemetry.CONTENT_TYPE)
        await _send(send, 200, [kind], self.runtime.measure())

    # -- what they share -------------------------------------------------------------------------

    async def _admit(self, request: Request) -> Principal:
        principal = self.runtime.keys.authenticate(request.header(b"authorization"))
        principal.limited_to("generate")
        if principal.anonymous and not request.is_json:
            # A form of any web page can be sent here from its visitor's machine; JSON cannot.
            raise InvalidQuery("send content-type: application/json", status=415)
        await self.runtime.limiter.hit(principal, request.address)
        return principal

    async def _answer(
        self, request: Request, send: Send, query: Query, principal: Principal
    ) -> None:
        """Answer in OpenAI's shape, whole or streamed."""
        _read_headers(request, query, principal)
        exchange = request.exchange = self.service.begin(query, principal)
        if query.stream:
            await self._watched(request, self._stream(send, exchange))
            return
        completion = await self._watched(request, self.service.whole(exchange))
        await _send(send, 200, [_JSON, *_trace_headers(exchange)], body_bytes(completion))

    async def _stream(self, send: Send, exchange: Exchange) -> None:
        opened = await self.service.open_stream(exchange)
        frames = self.service.frames(exchange, opened)
        try:
            await _forward(send, exchange, frames)
        finally:
            # A forwarder that was stopped before its first step closed nothing.
            await frames.aclose()
            await opened.rest.aclose()

    async def _watched(self, request: Request, work: Awaitable[T]) -> T:
        """Do the work, and stop it when the client goes away.

        Raises: Disconnected.
        """
        watch = Watch(request)
        try:
            return await work
        except asyncio.CancelledError:
            if watch.left:
                raise Disconnected from None
            raise
        finally:
            watch.end()


class Watch:
    """Look out for a client that goes away, and cancel the task that works for it.

    Looking begins after a moment: most answers are there before, and need no task for it.
    """

    __slots__ = ("_looking", "_request", "_timer", "_worker", "left")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._worker = asyncio.current_task()
        self._looking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, self._begin)
        self.left = False
        """Whether the client went away."""

    def _begin(self) -> None:
        self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        await self._request.disconnected()
        self.left = True
        if self._worker is not None:
            self._worker.cancel()

    def end(self) -> None:
        """Look no longer; a cancellation of ours is taken back."""
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self.left and self._worker is not None:
            self._worker.uncancel()


async def _forward(send: Send, exchange: Exchange, frames: AsyncGenerator[Frame]) -> None:
    """Send frames as they come; an error after the first one becomes an event."""
    await send({"type": _START, "status": 200, "headers": [*_SSE, *_trace_headers(exchange)]})
    try:
        async for frame in frames:
            await send({"type": _BODY, "body": frame.wire, "more_body": True})
        last = sse.DONE
    except TierError as error:
        last = sse.encode(orjson.dumps(_error_body(error)))
    finally:
        await frames.aclose()
    await send({"type": _BODY, "body": last})


def _read_headers(request: Request, query: Query, principal: Principal) -> None:
    """Take what headers say: tier, user, company, feature, conversation, trace."""
    headers = request.headers
    if tier := headers.get(b"x-triptych-tier"):
        query.tier_asked = tier.decode("latin-1")[:16]
        query.explicit = "header"
    if user := headers.get(b"x-triptych-user"):
        query.user_id = user.decode("latin-1")[:64]
        _assert_user(query.user_id, principal)
    if company := headers.get(b"x-triptych-company"):
        query.company_id = company.decode("latin-1")[:64]
    if feature := headers.get(b"x-triptych-feature"):
        query.feature = feature.decode("latin-1")[:64]
    if conversation := headers.get(b"x-triptych-conversation"):
        query.conversation_id = conversation.decode("latin-1")[:64]
    if trace := headers.get(b"traceparent"):
        query.traceparent = trace.decode("latin-1")[:64]


def _assert_user(user_id: str | None, principal: Principal) -> None:
    """Only a service's key may speak for a user."""
    if user_id and principal.kind != "service" and user_id != principal.user_id:
        raise Forbidden("this key may not speak for another user", code="user_mismatch")


def _trace_headers(exchange: Exchange) -> Headers:
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
    if trace.cached:
        pairs.append(("x-triptych-cached", "true"))
    return [
        (name.encode(), value.encode("latin-1", "replace").translate(_PRINTABLE))
        for name, value in pairs
    ]


def _error_body(error: TierError) -> dict[str, Any]:
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return shapes.error(message, status=error.status, code=error.code, param=error.param)


async def send_error(send: Send, error: TierError, exchange: Exchange | None = None) -> None:
    """Answer with an error; our own retries are spent, so clients are told not to add theirs."""
    headers: Headers = [_JSON, *(_trace_headers(exchange) if exchange else ())]
    if error.status in (408, 409, 429) or error.status >= 500:
        headers.append((b"x-should-retry", b"false"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    await _send(send, error.status, headers, orjson.dumps(_error_body(error)))


async def _send_json(send: Send, status: int, body: Any) -> None:
    await _send(send, status, [_JSON], orjson.dumps(body))


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": _START, "status": status, "headers": [*headers, length]})
    await send({"type": _BODY, "body": body})
