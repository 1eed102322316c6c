"""The routes of signing in and out: with a key, with an account of the hub, with a one-time link.

Source: OAuth 2.0 with a code challenge (RFC 7636), OpenID Connect Core 1.0.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from triptych.errors import TierError
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.sign_in.identity import SESSION, Session, SignIn
from triptych.panels.sign_in.one_time import redeem
from triptych.panels.web.site import Pages, Site, Visit

PENDING, PENDING_S = "triptych_pending", 600
BACK = "/sign-in/back"
_TIMEOUT = aiohttp.ClientTimeout(total=10)


def routes(site: Site, sign_in: SignIn) -> list[Route]:
    """Return the routes of signing in and out."""
    pages, entry = Pages(site), _Entry(sign_in)
    pages.get("/sign-in")(entry.form)
    pages.get("/sign-in/once/{token}")(entry.by_link)
    pages.get("/sign-in/hub")(entry.to_hub)
    pages.get(BACK)(entry.from_hub)
    pages.post("/sign-in")(entry.by_key)
    pages.post("/sign-out")(entry.out)
    return pages.routes


class _Entry:
    def __init__(self, sign_in: SignIn) -> None:
        self.sign_in = sign_in

    def _page(self, visit: Visit, then: str, trouble: str = "", status: int = 200) -> Response:
        return visit.page(
            "sign_in/page.html", status=status, then=then, trouble=trouble,
            hub=bool(self.sign_in.client),
        )  # fmt: skip

    async def form(self, visit: Visit) -> Response:
        """Show the form."""
        return self._page(visit, inside(visit.query.get("then", "/")))

    async def by_key(self, visit: Visit) -> Response:
        """Sign in with the key of the page's form."""
        key = str(visit.form.get("key", "")).strip()
        then = inside(str(visit.form.get("then", "/")))
        try:
            session = await self._session(key)
        except TierError as error:
            return self._page(visit, then, error.message, 401)
        return self.sign_in.remember(visit.request, RedirectResponse(then, 303), session)

    async def by_link(self, visit: Visit) -> Response:
        """Sign in with a link that works once."""
        if "prefetch" in visit.request.headers.get("sec-purpose", ""):
            return Response(status_code=503)  # a browser that only guesses must not use it up
        key = redeem(visit.path["token"])
        if key is None:
            words = "this link was used already, or is too old: `triptych sign-in` prints a new one"
            return self._page(visit, "/console/", words, 401)
        session = await self._session(key)
        then = inside(visit.query.get("then", "/console/"))
        return self.sign_in.remember(visit.request, RedirectResponse(then, 303), session)

    async def to_hub(self, visit: Visit) -> Response:
        """Go to the hub, to come back with its statement about the user."""
        if not self.sign_in.client:
            return self._page(visit, "/", "sign-in with a hub is not set up here", 404)
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "client_id": self.sign_in.client, "redirect_uri": _back(visit.request),
            "response_type": "code", "state": state,
            "scope": "openid profile read-repos write-repos",
            "code_challenge": challenge.rstrip(b"=").decode(), "code_challenge_method": "S256",
        }  # fmt: skip
        found = await _read(f"{self.sign_in.hub}/.well-known/openid-configuration")
        answer = RedirectResponse(f"{found['authorization_endpoint']}?{urlencode(query)}", 303)
        then = inside(visit.query.get("then", "/"))
        pending = {"state": state, "verifier": verifier, "then": then}
        return self.sign_in.set_cookie(visit.request, answer, PENDING, pending, PENDING_S)

    async def from_hub(self, visit: Visit) -> Response:
        """Exchange the hub's code for its ID token, and that for a key."""
        request, sign_in = visit.request, self.sign_in
        code, state = visit.query.get("code", ""), visit.query.get("state", "")
        asked = sign_in.open_cookie(request.cookies.get(PENDING, ""), PENDING_S) or {}
        if not code or not secrets.compare_digest(asked.get("state", ""), state) or not state:
            return self._page(visit, "/", "the hub did not confirm the sign-in", 401)
        found = await _read(f"{sign_in.hub}/.well-known/openid-configuration")
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": _back(request),
            "client_id": sign_in.client, "code_verifier": asked["verifier"],
        }  # fmt: skip
        given = await _read(found["token_endpoint"], form)
        try:
            issued = await GatewayClient(sign_in.gateway, "").ask(
                "POST", "/api/session", {"id_token": str(given.get("id_token", ""))}
            )
        except TierError as error:
            return self._page(visit, "/", error.message, 403)
        session = Session(
            issued["user_id"], issued["role"], issued["key"], str(given.get("access_token", ""))
        )
        answer = RedirectResponse(asked["then"], 303)
        answer.delete_cookie(PENDING)
        return sign_in.remember(request, answer, session)

    async def out(self, visit: Visit) -> Response:
        """Remove the cookie, and revoke the key if signing in had made it."""
        if session := self.sign_in.session(visit.request.cookies):
            with suppress(TierError):  # an admin's own key outlives the visit
                await GatewayClient(self.sign_in.gateway, session.key).ask("DELETE", "/api/session")
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(SESSION)
        return answer

    async def _session(self, key: str) -> Session:
        who = await GatewayClient(self.sign_in.gateway, key).me()
        role = str(who["role"])
        return Session(str(who["user_id"] or role.replace("_", " ")), role, key)


def inside(then: str) -> str:
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
