"""Only what the hub wrote just now, for us, says who somebody is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

from triptych.errors import Unauthenticated
from triptych.tiers.rules.identity import place_of, user_of

KEY = ECKey.generate_key("P-256", auto_kid=True)


@pytest.fixture
async def issuer() -> AsyncIterator[str]:
    """A hub that publishes what its statements are checked with."""

    async def discovery(request: web.Request) -> web.Response:
        base = f"http://{request.host}"
        return web.json_response({"issuer": base, "jwks_uri": f"{base}/keys"})

    async def keys(_: web.Request) -> web.Response:
        return web.json_response({"keys": [KEY.as_dict(private=False)]})

    app = web.Application()
    app.add_routes([
        web.get("/.well-known/openid-configuration", discovery), web.get("/keys", keys),
    ])  # fmt: skip
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


def statement(issuer: str, key: ECKey = KEY, **changed: Any) -> str:
    now = int(time.time())
    claims = {"iss": issuer, "aud": "panels", "iat": now, "exp": now + 600,
              "sub": "1", "preferred_username": "ann"} | changed  # fmt: skip
    return str(jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key))


async def test_a_statement_names_a_user_of_that_hub(issuer: str) -> None:
    assert await user_of(statement(issuer), issuer, "panels") == "ann@hub"
    assert place_of("https://hub.example.org") == "hub.example.org"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another application"},
        {"iss": "http://127.0.0.1:1"},
        {"exp": 1},
        {"iat": 1},
        {"preferred_username": None},
    ],
)
async def test_one_that_is_old_or_meant_for_others_names_nobody(
    issuer: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated, match="old, or meant for another gateway"):
        await user_of(statement(issuer, **changed), issuer, "panels")


async def test_a_forged_statement_names_nobody(issuer: str) -> None:
    stranger = ECKey.generate_key("P-256", auto_kid=True)
    unsigned = statement(issuer).rpartition(".")[0] + "."
    for forged in (statement(issuer, stranger), unsigned, "nonsense", ""):
        with pytest.raises(Unauthenticated):
            await user_of(forged, issuer, "panels")


async def test_without_a_hub_nobody_signs_in_by_statement(issuer: str) -> None:
    with pytest.raises(Unauthenticated, match="no hub signs people in here"):
        await user_of(statement(issuer), "", "")
