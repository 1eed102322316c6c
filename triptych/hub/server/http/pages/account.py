"""Pages of one's own: signing in with a token, signing out, tokens."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.responses import RedirectResponse, Response

from triptych.errors import AccessDenied, HubRefused
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.oauth import read_form
from triptych.hub.server.http.pages.render import render
from triptych.hub.server.http.routing import Router
from triptych.hub.server.storage.identity.accounts import account_by_id
from triptych.hub.server.storage.identity.sessions import COOKIE, close_session, open_session
from triptych.hub.server.storage.identity.tokens import (
    authenticate,
    create_token,
    list_tokens,
    revoke_token,
)
from triptych.hub.server.threads import in_thread

routes = Router(page=True)
_FORM_BYTES = 16 * 1024


@routes.get("/login", Access.PUBLIC)
async def ask_token(call: Call) -> Response:
    """Ask for a token."""
    return render("login.html", call, next=_local(call.query("next", "/")), problem="")


@routes.post("/login", Access.PUBLIC)
async def sign_in(call: Call) -> Response:
    """Start a session for the owner of a token."""
    form = dict(parse_qsl((await call.body(_FORM_BYTES)).decode(errors="replace")))
    after = _local(form.get("next", "/"))
    try:
        identity = await in_thread(authenticate, call.hub.database, form.get("token", "").strip())
    except AccessDenied:
        problem = "This token is not valid here, or no longer so."
        return render("login.html", call, status=401, next=after, problem=problem)
    seconds = call.hub.config.session_s
    value = await in_thread(open_session, call.hub.database, identity, seconds)
    response = RedirectResponse(after, 303)
    secure = call.base_url.startswith("https:")
    _set_cookie(response, value, seconds=seconds, secure=secure)
    return response


@routes.post("/logout", Access.SIGNED_IN)
async def sign_out(call: Call) -> Response:
    """End the session."""
    await read_form(call)
    await in_thread(close_session, call.hub.database, call.request.cookies)
    return RedirectResponse("/", 303)


@routes.get("/settings/tokens", Access.SIGNED_IN)
async def tokens(call: Call) -> Response:
    """Show one's tokens, as far as the hub knows them."""
    return await _tokens(call)


@routes.post("/settings/tokens", Access.SIGNED_IN)
async def change_tokens(call: Call) -> Response:
    """Make or revoke a token."""
    form = await read_form(call)
    if call.who.scope != "write":
        raise HubRefused(403, "Sign in with a token that writes to manage tokens")
    if call.who.expires_at is not None:
        raise HubRefused(403, "A token that ends cannot make or revoke others")
    if form.get("revoke"):
        await in_thread(revoke_token, call.hub.database, call.who.account_id, form["revoke"])
        return RedirectResponse("/settings/tokens", 303)
    name = form.get("name", "").strip()
    if not name or len(name) > 100:
        raise HubRefused(400, "A token needs a name of at most 100 characters")
    role = form.get("role", "read")
    if role not in ("read", "write"):
        raise HubRefused(400, "A token reads or writes")

    def make() -> str:
        user = account_by_id(call.hub.database, call.who.account_id)
        return create_token(call.hub.database, user, name, role)

    return await _tokens(call, fresh=await in_thread(make))


async def _tokens(call: Call, fresh: str = "") -> Response:
    records = await in_thread(list_tokens, call.hub.database, call.who.account_id)
    return render("tokens.html", call, tokens=records, fresh=fresh)


def _local(address: str) -> str:
    """Return an address of this hub, whatever was asked for."""
    return address if address.startswith("/") and not address.startswith(("//", "/\\")) else "/"


def _set_cookie(response: Response, value: str, *, seconds: int, secure: bool) -> None:
    """Put a session's cookie on an answer; scripts and other sites never see it."""
    response.set_cookie(
        COOKIE, value, max_age=seconds, httponly=True, samesite="lax", secure=secure, path="/"
    )
