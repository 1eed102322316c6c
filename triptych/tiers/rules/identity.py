"""Who a person is, in the words of the hub that signed them in.

The hub writes a statement for one application; whether it was written by that hub, for ours and
just now is checked here. Left out: what the person may do, which the gateway's own users say.

Source: OpenID Connect Core 1.0, section 3.1.3.7.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from triptych.errors import StorageError, Unauthenticated

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ALGORITHMS = ["ES256", "RS256"]
_TIMEOUT_S = 10.0
#: A statement is exchanged at once; an old one was kept and sent again.
_FRESH_S = 300.0


async def user_of(statement: str, issuer: str, client: str) -> str:
    """Return the id of the user whom a hub's statement is about, as `name@hub`.

    People of the hub on this machine are `name@hub`, of another `name@its.address`, so that the
    same name elsewhere is another person.

    Raises: Unauthenticated; StorageError when the hub does not answer.
    """
    if not issuer or not client:
        raise Unauthenticated("no hub signs people in here", hint="set gateway.identity_issuer")
    try:
        claims = jwt.decode(statement, await _keys(issuer), algorithms=_ALGORITHMS).claims
    except (JoseError, ValueError) as error:
        raise Unauthenticated("this is no statement of the hub") from error
    now = time.time()
    audience = claims.get("aud")
    said = (
        claims.get("iss") == issuer.rstrip("/")
        and audience in (client, [client])
        and float(claims.get("exp") or 0) > now
        and float(claims.get("iat") or 0) > now - _FRESH_S
    )
    name = claims.get("preferred_username")
    if not said or not isinstance(name, str) or not name:
        raise Unauthenticated("this statement is old, or meant for another gateway")
    return f"{name}@{place_of(issuer)}"


def place_of(issuer: str) -> str:
    """Return what stands behind the @ of the people of a hub."""
    host = urlsplit(issuer).hostname or ""
    return "hub" if host in _LOOPBACK else host


async def _keys(issuer: str) -> KeySet:
    found = await _read(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    address = str(found.get("jwks_uri") or "")
    if urlsplit(address)[:2] != urlsplit(issuer)[:2]:
        raise Unauthenticated("the hub's keys lie elsewhere than the hub")
    return KeySet.import_key_set(await _read(address))


async def _read(address: str) -> Any:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(address) as answer,
        ):
            return await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise StorageError("the hub that signs people in does not answer") from error
