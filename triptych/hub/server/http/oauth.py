"""The addresses of OpenID Connect: discovery, consent, token, who is it.

Source: OpenID Connect Core 1.0 and RFC 6749, 7636, as Gradio's sign-in button uses them.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from starlette.responses import JSONResponse, RedirectResponse, Response

from triptych.errors import AccessDenied, HubRefused
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.pages.render import render
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories import catalog
from triptych.hub.server.storage.identity import oauth, signing
from triptych.hub.server.storage.identity.accounts import Account, account_by_id, organisations_of
from triptych.hub.server.storage.identity.oauth import Client, Grant
from triptych.hub.server.storage.identity.sessions import form_token, form_token_fits
from triptych.hub.server.threads import in_thread

routes = Router()
pages = Router(page=True)
_FORM_BYTES = 64 * 1024


@routes.get("/.well-known/openid-configuration", Access.PUBLIC)
async def discovery(call: Call) -> Response:
    """Return the addresses and features of this provider."""
    base = call.base_url
    return JSONResponse(
        {
            "issuer": base,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "userinfo_endpoint": f"{base}/oauth/userinfo",
            "jwks_uri": f"{base}/oauth/keys",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "scopes_supported": list(oauth.SCOPES),
            "claims_supported": ["sub", "name", "preferred_username", "profile", "picture"],
            "id_token_signing_alg_values_supported": [signing.ALGORITHM],
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic", "client_secret_post", "none",
            ],
            "code_challenge_methods_supported": ["S256"],
        }
    )  # fmt: skip


@routes.get("/oauth/keys", Access.PUBLIC)
async def keys(call: Call) -> Response:
    """Hand out the public key of signed statements."""
    return JSONResponse(await in_thread(signing.public_keys, call.hub.database, call.hub.vault))


@pages.get("/oauth/authorize", Access.PUBLIC)
async def ask_consent(call: Call) -> Response:
    """Ask a signed-in person whether a client may know who they are."""
    query = dict(call.request.query_params)
    client, redirect_uri, scopes = await in_thread(_authorization_request, call, query)
    if call.identity is None:
        back = f"/oauth/authorize?{urlencode(query)}"
        return RedirectResponse(f"/login?{urlencode({'next': back})}", 303)
    if await in_thread(
        oauth.consented, call.hub.database, call.identity.account_id, client.id, scopes
    ):
        return await _send_back(call, client, query)
    return render(
        "consent.html", call,
        client=client.name, scopes=scopes, fields=query,
        form_token=form_token(call.hub.vault, call.request.cookies),
        form_targets=_origin(oauth.return_address(client, redirect_uri)),
    )  # fmt: skip


@pages.post("/oauth/authorize", Access.SIGNED_IN)
async def take_consent(call: Call) -> Response:
    """Take a person's answer and send them back."""
    form = await read_form(call)
    client, redirect_uri, _ = await in_thread(_authorization_request, call, form)
    if form.get("answer") == "yes":
        return await _send_back(call, client, form)
    denied = {"error": "access_denied", "state": form.get("state", "")}
    return _redirect(oauth.return_address(client, redirect_uri), denied)


@routes.post("/oauth/token", Access.ANONYMOUS)
async def give_token(call: Call) -> Response:
    """Exchange a code for a token."""
    form = dict(parse_qsl((await call.body(_FORM_BYTES)).decode(errors="replace")))
    if form.get("grant_type") != "authorization_code":
        return _oauth_error("unsupported_grant_type")
    client_id, secret = _credentials(call, form)
    client = await in_thread(_client, call, client_id)
    if client is None or not oauth.secret_fits(client, secret):
        return _oauth_error("invalid_client", 401)

    def redeem() -> tuple[Account, Grant]:
        grant = oauth.redeem_code(
            call.hub.database, client, form.get("code", ""), form.get("redirect_uri", ""),
            form.get("code_verifier", ""),
        )  # fmt: skip
        return account_by_id(call.hub.database, grant.user_id), grant

    try:
        user, grant = await in_thread(redeem)
    except HubRefused:
        return _oauth_error("invalid_grant")
    if client.secret_hash is None and not grant.challenge:
        return _oauth_error("invalid_grant")
    return JSONResponse(
        await in_thread(_tokens, call, client, user, grant), headers={"Cache-Control": "no-store"}
    )


def _tokens(call: Call, client: Client, user: Account, grant: Grant) -> dict[str, Any]:
    lasting_s = call.hub.config.oauth_token_s
    token = oauth.make_token(call.hub.database, user, client, grant.scopes, lasting_s)
    answer: dict[str, Any] = {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": lasting_s,
        "scope": " ".join(grant.scopes),
    }
    if "openid" in grant.scopes:
        now = int(time.time())
        claims = _profile(call, user, grant.scopes) | {
            "iss": call.base_url, "aud": client.id, "iat": now, "auth_time": now,
            "exp": now + lasting_s,
        }  # fmt: skip
        if grant.nonce:
            claims["nonce"] = grant.nonce
        answer["id_token"] = signing.sign_statement(call.hub.database, call.hub.vault, claims)
    return answer


@routes.get("/oauth/userinfo", Access.SIGNED_IN)
async def userinfo(call: Call) -> Response:
    """Describe the token's owner."""
    user = await in_thread(account_by_id, call.hub.database, call.who.account_id)
    return JSONResponse(await in_thread(_profile, call, user, ("profile", "email")))


async def read_form(call: Call) -> dict[str, str]:
    """Read a form of this hub's own pages.

    Raises: AccessDenied when it comes from elsewhere.
    """
    form = dict(parse_qsl((await call.body(_FORM_BYTES)).decode(errors="replace")))
    if not form_token_fits(call.hub.vault, call.request.cookies, form.pop("form_token", "")):
        raise AccessDenied("This form is not from a page of this hub; go back and try again")
    return form


def _profile(call: Call, user: Account, scopes: tuple[str, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "sub": str(user.id),
        "name": user.fullname,
        "preferred_username": user.name,
        "profile": f"{call.base_url}/{user.name}",
        "picture": f"{call.base_url}/static/person.svg",
        "isPro": False,
        "canPay": False,
        "orgs": [
            {
                "sub": str(org.id),
                "name": org.fullname,
                "preferred_username": org.name,
                "picture": f"{call.base_url}/static/person.svg",
                "roleInOrg": role,
            }
            for org, role in organisations_of(call.hub.database, user.id)
        ],
    }
    if "email" in scopes and user.email:
        described |= {"email": user.email, "email_verified": False}
    return described


def _authorization_request(
    call: Call, fields: dict[str, str]
) -> tuple[Client, str, tuple[str, ...]]:
    """Check an authorization request before the browser is sent anywhere."""
    client = _client(call, fields.get("client_id", ""))
    if client is None:
        raise HubRefused(400, "This application is not known to this hub")
    redirect_uri = fields.get("redirect_uri", "")
    if not oauth.fits(client, redirect_uri):
        raise HubRefused(400, f"{client.name} may not send people to {redirect_uri[:200]}")
    if fields.get("response_type") != "code":
        raise HubRefused(400, "Only response_type=code is offered here")
    challenge = fields.get("code_challenge", "")
    if challenge and fields.get("code_challenge_method") != "S256":
        raise HubRefused(400, "A code challenge must be S256")
    if client.secret_hash is None and not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge):
        raise HubRefused(400, f"{client.name} must send a code challenge")
    asked = fields.get("scope", "openid profile").split()
    return client, redirect_uri, tuple(scope for scope in oauth.SCOPES if scope in asked)


def _client(call: Call, client_id: str) -> Client | None:
    uid = oauth.space_of(client_id)
    if uid is None:
        return oauth.registered_client(call.hub.database, client_id)
    space = catalog.by_uid(call.hub.database, uid)
    if space is None or space.kind != "space":
        return None
    address = call.services.spaces.address(space, call.base_url)
    return oauth.space_client(call.hub.vault, space, address)


async def _send_back(call: Call, client: Client, fields: dict[str, str]) -> Response:
    _, redirect_uri, scopes = await in_thread(_authorization_request, call, fields)
    grant = Grant(
        client.id, call.who.account_id, redirect_uri, oauth.within_reach(call.who, scopes),
        fields.get("nonce", ""), fields.get("code_challenge", ""),
    )  # fmt: skip
    code = await in_thread(oauth.make_code, call.hub.database, grant)
    answer = {"code": code, "state": fields.get("state", "")}
    return _redirect(oauth.return_address(client, redirect_uri), answer)


def _redirect(address: str, values: dict[str, str]) -> Response:
    parts = urlsplit(address)
    query = urlencode([*parse_qsl(parts.query), *((k, v) for k, v in values.items() if v)])
    return RedirectResponse(parts._replace(query=query).geturl(), 303)


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _credentials(call: Call, form: dict[str, str]) -> tuple[str, str]:
    scheme, _, value = call.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return unquote(name), unquote(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


def _oauth_error(code: str, status: int = 400) -> Response:
    return JSONResponse({"error": code}, status_code=status, headers={"Cache-Control": "no-store"})
