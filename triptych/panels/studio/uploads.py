"""Check uploads before they are read: refuse callers without a name, and files that are too large.

Left out: types, and what comes out of a compressed file (`corpus`).
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triptych.formatting import format_bytes
from triptych.panels.visitor import SIGN_IN, who

PLACE = "/gradio_api/upload"
# What a form adds around the files it carries.
FORM_BYTES = 65_536


class UploadGate:
    """Lets through uploads of signed-in users that are not too large; units: bytes a request."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self.app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not scope["path"].rstrip("/").endswith(PLACE):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        meter = _Meter(receive, send, self._limit_bytes + FORM_BYTES)
        try:
            await self.app(scope, meter.receive, meter.send)
        except ClientDisconnect:
            if not meter.over:
                raise
        if meter.over:
            await _too_much(self._limit_bytes)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        if not who(Request(scope)).user:
            return PlainTextResponse(f"sign in first: {SIGN_IN}", 401)
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdigit():
            return PlainTextResponse("how long is it?", 400)
        if int(announced) > self._limit_bytes + FORM_BYTES:
            return _too_much(self._limit_bytes)
        return None


class _Meter:
    """Hand on no more than was allowed, whatever was announced; beyond, the answer is ours."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int) -> None:
        self._receive, self._send = receive, send
        self._left_bytes = most_bytes

    @property
    def over(self) -> bool:
        """Return whether more came than was allowed."""
        return self._left_bytes < 0

    async def receive(self) -> Message:
        """Receive for the application."""
        message = await self._receive()
        self._left_bytes -= len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.over else message

    async def send(self, message: Message) -> None:
        """Send for the application, as long as it has read everything."""
        if not self.over:
            await self._send(message)


def _too_much(limit_bytes: int) -> PlainTextResponse:
    # Closed, or the rest would still be taken in and thrown away.
    said = f"this is too large; {format_bytes(limit_bytes)} are allowed"
    return PlainTextResponse(said, 413, {"connection": "close"})
