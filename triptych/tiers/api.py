"""The gateway's HTTP routes; what they do is in `pipeline.service`.

The paths of every request (`/v1/...`, `/api/query`, `/health`, `/metrics`) are a dictionary of
plain ASGI handlers; the rarely used ones (`admin`) are Starlette's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import orjson

from triptych.errors import InvalidQuery, NotFound, NotHere, TierError
from triptych.tiers.admin.routing import application
from triptych.tiers.admin.table import TABLE
from triptych.tiers.http import anthropic, bodies, pages, response_items, responses
from triptych.tiers.http.kept_response import KeptResponse
from triptych.tiers.http.replies import (
    JSON,
    EventReply,
    OpenAIWriter,
    StreamWriter,
    error_body,
    send_body,
    send_error,
    send_json,
    trace_headers,
)
from triptych.tiers.http.requests import (
    Disconnected,
    DisconnectWatch,
    Receive,
    Request,
    Scope,
    Send,
    with_headers,
)
from triptych.tiers.pipeline import telemetry
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.pipeline.readiness import readiness
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.pipeline.service import LLMService, body_bytes, new_request_id
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.query import Query
from triptych.tiers.rules.tokens import estimated
from triptych.wire import absent, lenient_json
from triptych.wire import openai as shapes
from triptych.wire.tiers import TIERS

logger = logging.getLogger("triptych.gateway")

T = TypeVar("T")
#: One model; its name may hold slashes.
_MODEL = "/v1/models/"
Handler = Callable[[Request, Send], Awaitable[None]]


class Gateway:
    """The ASGI application of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.service = LLMService(runtime)
        self._rest = application(TABLE, runtime, self.service)
        self._hot: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completions,
            ("POST", "/v1/messages"): self._messages,
            ("POST", "/v1/messages/count_tokens"): self._count_tokens,
            ("POST", "/v1/responses"): self._responses,
            ("POST", "/api/query"): self._query,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/ready"): self._ready,
            ("GET", "/metrics"): self._metrics,
        }
        self._for_pages = pages.allowing(runtime.config.cors_origins, self._http)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            if self._for_pages is not None and scope["path"].startswith(pages.PATHS):
                await self._for_pages(scope, receive, send)
            else:
                await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        handler = self._hot.get((method, scope["path"]))
        if handler is None and method == "GET" and scope["path"].startswith(_MODEL):
            handler = self._model
        request = Request(scope, receive)
        if b"content-encoding" in request.headers:
            receive = request.unpack(self.runtime.config.max_body_bytes)
        try:
            if handler is None:
                if why := absent.reason(scope["path"]):
                    raise NotHere(why)
                await self._rest(scope, receive, cast(Any, send))
            else:
                await handler(request, send)
        except TierError as error:
            if request.exchange is None:
                self.runtime.metrics.refuse(error.code)
            shape = request.error_shape or error_body
            await send_error(send, error, request.exchange, shape)
        except Disconnected:
            logger.debug("a client went away")
        except Exception:  # boundary: the request handler
            logger.exception("a request failed inside the gateway")
            with contextlib.suppress(RuntimeError):  # an answer had begun: it ends here
                await send_json(
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

    async def _messages(self, request: Request, send: Send) -> None:
        request.error_shape = anthropic.error_shape
        principal = await self._admit(request)
        config = self.runtime.config
        body = anthropic.chat_body(bodies.load(await request.body(config.max_body_bytes)))
        query = bodies.chat(body, new_request_id(), system_allowed=config.allow_client_system)
        writer = anthropic.MessageWriter()

        async def whole(completion: dict[str, Any]) -> dict[str, Any]:
            return anthropic.message(completion)

        await self._answer(request, send, query, principal, writer, whole)

    async def _count_tokens(self, request: Request, send: Send) -> None:
        request.error_shape = anthropic.error_shape
        await self._admit(request)
        raw = await request.body(self.runtime.config.max_body_bytes)
        body = bodies.chat(anthropic.chat_body(bodies.load(raw)), "", system_allowed=True)
        await send_json(send, 200, {"input_tokens": estimated(body, 0).input_tokens})

    async def _responses(self, request: Request, send: Send) -> None:
        principal = await self._admit(request)
        config, request_id = self.runtime.config, new_request_id()
        given = responses.read(bodies.load(await request.body(config.max_body_bytes)))
        kept = KeptResponse(self.runtime, given, request, principal)
        body = responses.chat_body(given, await kept.earlier())
        query = bodies.chat(body, request_id, system_allowed=config.allow_client_system)
        writer = response_items.ResponseWriter(given, request_id)

        async def whole(completion: dict[str, Any]) -> dict[str, Any]:
            return await kept.keep(lambda: response_items.response(completion, given, request_id))

        async def before_end() -> None:
            await kept.keep(writer.ended)

        await self._answer(request, send, query, principal, writer, whole, before_end)

    async def _query(self, request: Request, send: Send) -> None:
        principal = await self._admit(request)
        body = bodies.load(await request.body(self.runtime.config.max_body_bytes))
        query = bodies.original(body, new_request_id())
        if query.stream:
            await self._answer(request, send, query, principal)
            return
        exchange = request.exchange = self.service.begin(query, principal)
        await self._watched(request, self.service.whole(exchange))
        trace = exchange.trace
        answer: dict[str, Any] = {
            "content": exchange.answer.text,
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
        if trace.evidence is not None:
            answer["citations"], answer["triptych"] = trace.citations, trace.evidence
        await send_body(send, 200, [JSON, *trace_headers(exchange)], orjson.dumps(answer))

    async def _models(self, request: Request, send: Send) -> None:
        principal = await self._admit(request)
        cards = [shapes.model_card(name) for name in self._model_names(principal)]
        await send_json(send, 200, shapes.model_list(cards))

    async def _model(self, request: Request, send: Send) -> None:
        principal = await self._admit(request)
        name = request.scope["path"].removeprefix(_MODEL)
        if name not in self._model_names(principal):
            raise NotFound(f"no model is called {name[:128]!r}", code="model_not_found")
        await send_json(send, 200, shapes.model_card(name))

    def _model_names(self, principal: Principal) -> tuple[str, ...]:
        """Return what a caller may name as model; without a key that is the base tier only."""
        tiers = ("base",) if principal.anonymous else TIERS
        names = (*tiers, "auto", *self.runtime.selector.catalogue.model_names(principal))
        return tuple(filter(principal.may_ask, names))

    async def _health(self, request: Request, send: Send) -> None:
        await send_json(send, 200, {"status": "ok"})

    async def _ready(self, request: Request, send: Send) -> None:
        status, state = readiness(self.runtime)
        await send_json(send, status, state)

    async def _metrics(self, request: Request, send: Send) -> None:
        kind = (b"content-type", telemetry.CONTENT_TYPE)
        await send_body(send, 200, [kind], await self.runtime.worker_metrics.render())

    # -- what they share -------------------------------------------------------------------------

    async def _admit(self, request: Request) -> Principal:
        principal = self.runtime.authenticate(request.authorization, request.address)
        principal.limited_to("generate")
        if principal.anonymous and not request.is_json:
            # A form of any web page can be sent here from its visitor's machine; JSON cannot.
            raise InvalidQuery("send content-type: application/json", status=415)
        await self.runtime.limiter.hit(principal, request.address)
        await self.runtime.key_limits.admit(principal)
        return principal

    async def _answer(
        self,
        request: Request,
        send: Send,
        query: Query,
        principal: Principal,
        writer: StreamWriter | None = None,
        translate: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] | None = None,
        before_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Answer whole or streamed, in OpenAI's chat shape or translated from it."""
        query = with_headers(query, request)
        exchange = request.exchange = self.service.begin(query, principal)
        if query.stream:
            work = self._stream(send, exchange, writer or OpenAIWriter(), before_end)
            await self._watched(request, work)
            return
        completion = await self._watched(request, self.service.whole(exchange))
        raw = body_bytes(completion)
        if translate is not None:
            raw = lenient_json.dumps(await translate(completion.body))
        await send_body(send, 200, [JSON, *trace_headers(exchange)], raw)

    async def _stream(
        self,
        send: Send,
        exchange: Exchange,
        writer: StreamWriter,
        before_end: Callable[[], Awaitable[None]] | None,
    ) -> None:
        reply = EventReply(send, exchange, self.runtime.config.keepalive_s, writer)
        try:
            opened = await self.service.open_stream(exchange)
            frames = self.service.frames(exchange, opened)
            try:
                await reply.forward(frames, before_end)
            finally:
                # A forwarder that was stopped before its first step closed nothing.
                await frames.aclose()
                await opened.close()
        except TierError as error:
            if not reply.started:
                raise
            await reply.fail(error)
        finally:
            reply.close()

    async def _watched(self, request: Request, work: Awaitable[T]) -> T:
        """Do the work, and stop it when the client goes away.

        Raises: Disconnected.
        """
        watch = DisconnectWatch(request)
        try:
            return await work
        except asyncio.CancelledError:
            if watch.left:
                raise Disconnected from None
            raise
        finally:
            watch.end()
