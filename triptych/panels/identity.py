"""One sign-in for all panels of an address: with a key, or with an account of the hub.

The gateway decides which user a key belongs to. The key is kept encrypted in a cookie that no
script can read, so that this process stores nothing and may restart at any time; a revoked key
ends every page that uses it.

Source: OAuth 2.0 with a code challenge (RFC 7636), OpenID Connect Core 1.0.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from cryptography.fernet import Fernet, InvalidToken
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest
from starlette.types import ASGIApp, Receive, Scope, Send

from triptych.durable import write_atomic
from triptych.errors import TierError
from triptych.panels.console.client import GatewayClient
from triptych.panels.landing import page

SESSION, PENDING = "triptych_session", "triptych_pending"
SESSION_S, PENDING_S = 12 * 3600, 600
BACK = "/sign-in/back"
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_OPEN = ("/sign-in", "/health", "/favicon.ico")


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
        self._seal = Fernet(_seal_key(key_file))

    def session(self, cookies: Mapping[str, str]) -> Session | None:
        """Return the session in these cookies; None where there is none or it is too old."""
        kept = self._open(cookies.get(SESSION, ""), SESSION_S)
        return Session(**kept) if kept else None

    def routes(self) -> APIRouter:
        """Return the routes of signing in and out."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/sign-in", self._form, methods=["GET"], response_model=None)
        router.add_api_route("/sign-in", self._by_key, methods=["POST"], response_model=None)
        router.add_api_route("/sign-in/hub", self._to_hub, methods=["GET"], response_model=None)
        router.add_api_route(BACK, self._from_hub, methods=["GET"], response_model=None)
        router.add_api_route("/sign-out", self._out, methods=["POST"], response_model=None)
        return router

    async def _form(self, then: str = "/") -> HTMLResponse:
        return HTMLResponse(self.draw(_inside(then)))

    def draw(self, then: str, trouble: str = "") -> str:
        """Return the sign-in page as HTML."""
        said = f'<p role="alert"><b>{escape(trouble)}</b></p>' if trouble else ""
        hub = f'<p><a href="/sign-in/hub?then={quote(then, safe="")}">Sign in with the hub</a></p>'
        return page(
            "Sign in",
            f'<main class="sign-in">{said}<form method="post" action="/sign-in">'
            '<label for="key">Your key</label>'
            '<input id="key" name="key" type="password" autocomplete="current-password" required>'
            f'<input type="hidden" name="then" value="{escape(then, quote=True)}">'
            f"<button>Sign in</button></form>{hub if self.client else ''}"
            '<p class="soft">The first key is in the file TRIPTYCH_HOME/gateway/admin-key.</p>'
            "</main>",
        )

    async def _by_key(self, request: Request) -> Response:
        """Sign in with the key of the page's form, or of the Console's own form."""
        plain = not request.headers.get("content-type", "").startswith("application/json")
        given: Mapping[str, Any] = await (request.form() if plain else request.json())
        key, then = str(given.get("key", "")).strip(), _inside(str(given.get("then", "/")))
        try:
            who = await GatewayClient(self.gateway, key).me()
        except TierError as error:
            if plain:
                return HTMLResponse(self.draw(then, error.message), 401)
            return JSONResponse({"error": error.message}, 401)
        name = str(who["user_id"] or who["key_id"])
        answer: Response = RedirectResponse(then, 303) if plain else JSONResponse({"name": name})
        return self._remember(request, answer, Session(name, str(who["role"]), key))

    async def _to_hub(self, request: Request, then: str = "/") -> Response:
        if not self.client:
            return HTMLResponse(self.draw("/", "sign-in with a hub is not set up here"), 404)
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "client_id": self.client, "redirect_uri": _back(request), "response_type": "code",
            "scope": "openid profile read-repos write-repos", "state": state,
            "code_challenge": challenge.rstrip(b"=").decode(), "code_challenge_method": "S256",
        }  # fmt: skip
        found = await _read(f"{self.hub}/.well-known/openid-configuration")
        answer = RedirectResponse(f"{found['authorization_endpoint']}?{urlencode(query)}", 303)
        pending = {"state": state, "verifier": verifier, "then": _inside(then)}
        return self._set(request, answer, PENDING, pending, PENDING_S)

    async def _from_hub(self, request: Request, code: str = "", state: str = "") -> Response:
        """Exchange the hub's code for its ID token, and that for a key."""
        asked = self._open(request.cookies.get(PENDING, ""), PENDING_S) or {}
        if not code or not secrets.compare_digest(asked.get("state", ""), state) or not state:
            return HTMLResponse(self.draw("/", "the hub did not confirm the sign-in"), 401)
        found = await _read(f"{self.hub}/.well-known/openid-configuration")
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": _back(request),
            "client_id": self.client, "code_verifier": asked["verifier"],
        }  # fmt: skip
        given = await _read(found["token_endpoint"], form)
        try:
            issued = await GatewayClient(self.gateway, "").ask(
                "POST", "/api/session", {"id_token": str(given.get("id_token", ""))}
            )
        except TierError as error:
            return HTMLResponse(self.draw("/", error.message), 403)
        session = Session(
            issued["user_id"], issued["role"], issued["key"], str(given.get("access_token", ""))
        )
        answer = RedirectResponse(asked["then"], 303)
        answer.delete_cookie(PENDING)
        return self._remember(request, answer, session)

    async def _out(self, request: Request) -> Response:
        """Remove the cookie, and revoke the key if signing in had made it."""
        if session := self.session(request.cookies):
            with suppress(TierError):  # an admin's own key outlives the visit
                await GatewayClient(self.gateway, session.key).ask("DELETE", "/api/session")
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(SESSION)
        return answer

    def _remember(self, request: Request, answer: Response, session: Session) -> Response:
        return self._set(request, answer, SESSION, vars(session), SESSION_S)

    def _set(
        self, request: Request, answer: Response, name: str, value: Mapping[str, Any], lasts_s: int
    ) -> Response:
        sealed = self._seal.encrypt(json.dumps(dict(value)).encode()).decode()
        secure = request.url.scheme == "https"
        answer.set_cookie(
            name, sealed, max_age=lasts_s, httponly=True, samesite="lax", secure=secure
        )
        return answer

    def _open(self, sealed: str, lasts_s: int) -> dict[str, Any] | None:
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
            request = StarletteRequest(scope)
            scope["signed_in"] = self.sign_in.session(request.cookies)
            path = request.url.path
            if scope["signed_in"] is None and not path.startswith(_OPEN):
                refusal: Response = JSONResponse({"error": "sign in first: /sign-in"}, 401)
                if "text/html" in request.headers.get("accept", ""):
                    refusal = RedirectResponse(f"/sign-in?then={quote(path)}", 303)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _inside(then: str) -> str:
    """Return the address where it is one of ours, else `/`: never redirect to another site."""
    plain = then.startswith("/") and not then.startswith(("//", "/\\"))
    return then if plain and not urlsplit(then).netloc else "/"


def _back(request: Request) -> str:
    return str(request.base_url).rstrip("/") + BACK


async def _read(address: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.request("GET" if form is None else "POST", address, data=form) as answer,
    ):
        found: dict[str, Any] = await answer.json(content_type=None)
        return found


def _seal_key(file: Path) -> bytes:
    """Return the key that encrypts cookies; create it, readable by its owner only."""
    if not file.exists():
        write_atomic(file, Fernet.generate_key(), private=True)
    return file.read_bytes()
