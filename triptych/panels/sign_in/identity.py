"""One sign-in for all panels of an address: with a key, or with an account of the hub.

The gateway decides which user a key belongs to. The key is kept encrypted in a cookie that no
script can read, so that this process stores nothing and may restart at any time; a revoked key
ends every page that uses it. Left out: the routes (`sign_in.routes`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from triptych.durable import write_atomic

SESSION = "triptych_session"
SESSION_S = 12 * 3600
_OPEN = ("/sign-in", "/health", "/favicon.ico", "/static/")


@dataclass(frozen=True)
class Session:
    """A signed-in user, as the cookie stores them."""

    name: str
    role: str
    key: str
    hub_token: str = ""

    def __repr__(self) -> str:
        return f"Session({self.name!r}, {self.role!r})"


class SignIn:
    """Sign users in and out, and read their session from the cookie.

    `client` is the id under which these panels are known to the hub; empty: keys only.
    """

    def __init__(self, gateway: str, hub: str, client: str, key_file: Path) -> None:
        self.gateway, self.hub, self.client = gateway, hub.rstrip("/"), client
        self.key = _seal_key(key_file)
        self._seal = Fernet(self.key)

    def session(self, cookies: Mapping[str, str]) -> Session | None:
        """Return the session in these cookies; None where there is none or it is too old."""
        kept = self.open_cookie(cookies.get(SESSION, ""), SESSION_S)
        return Session(**kept) if kept else None

    def remember(self, request: Request, answer: Response, session: Session) -> Response:
        """Put a session into an answer's cookie."""
        return self.set_cookie(request, answer, SESSION, vars(session), SESSION_S)

    def set_cookie(
        self, request: Request, answer: Response, name: str, value: Mapping[str, Any], lasts_s: int
    ) -> Response:
        """Put a value into an answer's cookie, encrypted and out of reach of scripts."""
        sealed = self._seal.encrypt(json.dumps(dict(value)).encode()).decode()
        secure = request.url.scheme == "https"
        answer.set_cookie(
            name, sealed, max_age=lasts_s, httponly=True, samesite="lax", secure=secure
        )
        return answer

    def open_cookie(self, sealed: str, lasts_s: int) -> dict[str, Any] | None:
        """Return what a cookie contains; None where it was not encrypted here or is too old."""
        try:
            kept: dict[str, Any] = json.loads(self._seal.decrypt(sealed.encode(), ttl=lasts_s))
        except (InvalidToken, ValueError):
            return None
        return kept


class SignInRequired:
    """Refuse every request without a session; for an installation that others can reach."""

    def __init__(self, app: ASGIApp, sign_in: SignIn) -> None:
        self.app, self.sign_in = app, sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            scope["signed_in"] = self.sign_in.session(HTTPConnection(scope).cookies)
            if scope["signed_in"] is None:
                await send({"type": "websocket.close", "code": 1008})
                return
        if scope["type"] == "http":
            request = Request(scope)
            scope["signed_in"] = self.sign_in.session(request.cookies)
            path = request.url.path
            if scope["signed_in"] is None and not path.startswith(_OPEN):
                refusal: Response = JSONResponse({"error": "sign in first: /sign-in"}, 401)
                if "text/html" in request.headers.get("accept", ""):
                    refusal = RedirectResponse(f"/sign-in?then={quote(path)}", 303)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _seal_key(file: Path) -> bytes:
    """Return the key that encrypts cookies; create it, readable by its owner only."""
    if not file.exists():
        write_atomic(file, Fernet.generate_key(), private=True)
    return file.read_bytes()
