"""The plain HTTP around every route: JSON, event streams, errors, the bearer token, the body limit.

The middlewares are bare ASGI: a framework's would cost more per streamed token than the token.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triptych.config.environment import Secret
from triptych.errors import TriptychError
from triptych.lm.serve.service import TooBusy
from triptych.wire import absent, compression, lenient_json, openai, sse
from triptych.wire.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    GenerateBody,
    TokenizeRequest,
    fault_messages,
)

#: Error code to HTTP status; what is not listed is a server error.
STATUS = {
    "context_length": 400,
    "unsupported": 400,
    "schema": 400,
    "generation": 400,
    "data": 400,
    "token_ids": 400,
    "usage": 400,
    "adapter": 404,
    "model_not_found": 404,
    "queue_full": 429,
    "busy": 503,
    "closed": 503,
    "memory": 507,
    "out_of_memory": 507,
    "http_429": 429,
    "upstream": 502,
    "unreachable": 503,
}
OPENAI_CODES = {"context_length": "context_length_exceeded"}
BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/api/generate": GenerateBody,
    "/v1/embeddings": EmbeddingsRequest,
    "/tokenize": TokenizeRequest,
}
OPEN_PATHS = frozenset({"/health"})


class JSON(Response):
    """A JSON answer, written by orjson."""

    media_type = "application/json"

    def __init__(
        self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(lenient_json.clean_dumps(content), status_code, dict(headers or {}))


class EventStream(Response):
    """Send server-sent events as they come; stop the source as soon as the client is gone."""

    media_type = sse.MEDIA_TYPE

    def __init__(
        self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            None, 200, {"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})}
        )
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the source ends or the client leaves."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not writing.done():
                writing.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
            await self._events.aclose()
        fault = None if writing.cancelled() else writing.exception()
        if fault is not None and not isinstance(fault, OSError):
            raise fault

    async def _write(self, send: Send) -> None:
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def client_gone(request: Request) -> None:
    """Return when the client of a request that is not streamed has gone."""
    await _disconnected(request.receive)


def error_answer(error: TriptychError, *, param: str | None = None) -> JSON:
    """Turn an error into the answer OpenAI's clients understand."""
    # Whatever else another server refused on our behalf was not the client's doing.
    status = STATUS.get(error.code, 502 if error.code.startswith("http_") else 500)
    headers = {}
    if isinstance(error, TooBusy):
        headers["retry-after"] = str(error.retry_after_s)
    elif error.retryable:
        headers["retry-after"] = "1"
    words = f"{error.message}; {error.hint}" if error.hint else error.message
    code = OPENAI_CODES.get(error.code, error.code)
    return JSON(openai.error(words, status=status, code=code, param=param), status, headers)


async def on_triptych_error(_: Request, error: Exception) -> Response:
    """Answer with what went wrong and what to do next."""
    assert isinstance(error, TriptychError)
    return error_answer(error)


async def on_invalid_request(request: Request, error: Exception) -> Response:
    """Answer 422 with every field at fault and its allowed range."""
    assert isinstance(error, RequestValidationError)
    model = BODIES.get(request.url.path, ChatRequest)
    faults = fault_messages(error.errors(), model)
    body = openai.error(
        "; ".join(sentence for _, sentence in faults),
        status=422,
        code="invalid_value",
        param=faults[0][0] if faults else None,
    )
    return JSON(body, 422)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer unknown paths and methods in the same shape as every other error."""
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405) and (why := absent.reason(request.url.path)):
        # The header stops SDKs from trying a server error again.
        return JSON(
            openai.error(why, status=501, code="not_implemented"), 501, {"x-should-retry": "false"}
        )
    return JSON(
        openai.error(str(error.detail), status=error.status_code),
        error.status_code,
        error.headers,
    )


class BearerToken:
    """Let in only requests that carry the token, where one is set; `/health` stays open."""

    def __init__(self, app: ASGIApp, token: Secret | None) -> None:
        self.app = app
        self._expected = f"Bearer {token.reveal()}".encode() if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if self._expected and scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                body = openai.error(
                    "this server asks for a bearer token", status=401, code="invalid_api_key"
                )
                answer = JSON(body, 401, {"www-authenticate": "Bearer"})
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuse request bodies over a limit, declared or not, before they fill the memory."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        held = 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            held += len(message.get("body", b""))
            if held > self._max_bytes:
                raise HTTPException(413, self._words())
            return message

        encoding = compression.encoding_of(scope["headers"])
        if not encoding:
            await self.app(scope, counted, send)
            return
        inner = compression.unpacked(receive, encoding, self._max_bytes)

        async def checked() -> Message:
            try:
                found: Message = await inner()
            except compression.CompressionFault as fault:
                raise HTTPException(fault.status, str(fault)) from fault
            return found

        await self.app(scope, checked, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = openai.error(self._words(), status=413, code="too_large")
        await JSON(body, 413, {"connection": "close"})(scope, receive, send)

    def _words(self) -> str:
        return f"a request may have at most {self._max_bytes} bytes"
