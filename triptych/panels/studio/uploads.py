"""Stand before the page's uploads: who is nobody, or brings too much, is refused unread.

Left out: types, and what comes out of a compressed file (`corpus`).
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triptych.panels.studio.visitor import SIGN_IN, who
from triptych.words import size

PLACE = "/gradio_api/upload"
# What a form adds around the files it carries.
FORM_BYTES = 65_536


class UploadGate:
    """Let through an upload of somebody known that is not too large; units: bytes a request."""

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
        await self.app(scope, _counted(receive, self._limit_bytes + FORM_BYTES), send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        if not who(Request(scope)).user:
            return PlainTextResponse(f"sign in first: {SIGN_IN}", 401)
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdigit():
            return PlainTextResponse("how long is it?", 400)
        if int(announced) > self._limit_bytes + FORM_BYTES:
            said = f"{size(int(announced))} are too much; {size(self._limit_bytes)} are allowed"
            # Closed, or the rest would still be taken in and thrown away.
            return PlainTextResponse(said, 413, {"connection": "close"})
        return None


def _counted(receive: Receive, most_bytes: int) -> Receive:
    """Read no more than was allowed, whatever was announced."""
    left_bytes = most_bytes

    async def read() -> Message:
        nonlocal left_bytes
        message = await receive()
        left_bytes -= len(message.get("body", b""))
        return message if left_bytes >= 0 else {"type": "http.disconnect"}

    return read
