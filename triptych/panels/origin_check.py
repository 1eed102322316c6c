"""Keep other sites' pages from acting through a visitor's browser, and ours from calling theirs.

A browser says which site a request comes from; what comes from another one changes nothing here.
Programs send no such header and are let through: they have no visitor's session.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = ("same-origin", "none")
_HEADERS = {
    # The page framework writes its own scripts and styles into its pages; nothing is fetched
    # from, sent to or framed by another site.
    "content-security-policy": "; ".join((
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'self'",
    )),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}  # fmt: skip


class OriginCheck:
    """Refuses changes that another site's page requests; sends a content security policy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket" and _foreign(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] not in _READING and _foreign(Headers(scope=scope)):
            refusal = PlainTextResponse("This request came from another site's page.", 403)
            await refusal(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, guarded)


def _foreign(headers: Headers) -> bool:
    if site := headers.get("sec-fetch-site"):
        return site not in _OWN
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
