"""A key is limited by requests and tokens a minute, and by the models it may ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from upstream_answers import ASK

from triptych.config.gateway import GatewayConfig, UpstreamConfig
from triptych.errors import LimitExceeded
from triptych.tiers.pipeline.key_limits import KeyLimiter
from triptych.tiers.rules.accounts import ANONYMOUS, KeyLimits
from triptych.tiers.store import accounts

CHAT = "/v1/chat/completions"


@pytest.fixture
async def gateway(workshop: Any) -> Any:
    upstream = await workshop.upstream("fine")
    models = {"base": "m", "small": "m", "large": "m"}
    up = UpstreamConfig("local", f"{upstream.url}/v1", models)
    return await workshop.gateway({"up": up})


async def limited(gateway: Any, **limits: Any) -> str:
    key = await accounts.create_key(gateway.database, name="app", limits=limits, actor="t")
    await gateway.runtime.refresh()
    return key


async def ask(gateway: Any, key: str, **body: Any) -> tuple[int, Any, Any]:
    body = {"model": "small", "messages": ASK, **body}
    return await gateway.post(CHAT, body, authorization=f"Bearer {key}")


async def test_requests_a_minute(gateway) -> None:
    key, other = await limited(gateway, requests_per_minute=3), await limited(gateway)
    found = [await ask(gateway, key) for _ in range(5)]
    assert [status for status, _, _ in found] == [200, 200, 200, 429, 429]
    _, body, headers = found[-1]
    assert body["error"]["code"] == "key_limit" and 1 <= int(headers["retry-after"]) <= 60
    assert (await ask(gateway, other))[0] == 200
    embed = {"model": "small", "input": "x"}
    sent = {"authorization": f"Bearer {key}"}
    assert (await gateway.post("/v1/embeddings", embed, **sent))[0] == 429


async def test_tokens_a_minute_are_set_aside_and_settled(gateway) -> None:
    await gateway.set(cache=False)
    key = await limited(gateway, tokens_per_minute=150)
    # each answer uses 5 tokens, of at most 100 that are set aside
    for _ in range(6):
        assert (await ask(gateway, key, max_tokens=100))[0] == 200
        await asyncio.sleep(0)
    status, body, _ = await ask(gateway, key, max_tokens=140)
    assert status == 429 and "30 are used" in body["error"]["message"]
    found = await asyncio.gather(*(ask(gateway, key, max_tokens=60) for _ in range(8)))
    statuses = [status for status, _, _ in found]
    assert 1 <= statuses.count(200) <= 7 and set(statuses) == {200, 429}


async def test_a_list_of_models(gateway) -> None:
    key = await limited(gateway, models=["small", "base"])
    async with gateway.sdk(key) as client:
        assert {card.id for card in (await client.models.list()).data} == {"small", "base"}
        for allowed in ("small", "base", "tier:base"):
            await client.chat.completions.create(model=allowed, messages=ASK)
        for refused in ("large", "auto", "company"):
            with pytest.raises(openai.PermissionDeniedError, match="may not ask") as raised:
                await client.chat.completions.create(model=refused, messages=ASK)
            assert raised.value.code == "model_not_allowed"
        with pytest.raises(openai.PermissionDeniedError):
            await client.embeddings.create(model="large", input="x")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("large")


async def test_limits_are_set_and_lifted_by_those_who_may(people) -> None:
    keys = (await people.call("admin", "GET", "/api/keys"))[1]["keys"]
    mine = next(row["key_id"] for row in keys if row["name"] == "service")
    strange = next(row["key_id"] for row in keys if row["name"] == "foreign")
    path, limits = f"/api/keys/{mine}/limits", {"requests_per_minute": 1, "models": ["base"]}
    assert (await people.call("user", "PUT", path, limits))[0] == 403
    assert (await people.call("company_admin", "PUT", path, limits))[0] == 200
    other = f"/api/keys/{strange}/limits"
    assert (await people.call("company_admin", "PUT", other, limits))[0] == 404
    body = {"model": "base", "messages": ASK}
    assert (await people.call("service", "POST", CHAT, body))[0] == 200
    assert (await people.call("service", "POST", CHAT, body))[0] == 429
    rows = (await people.call("admin", "GET", "/api/keys"))[1]["keys"]
    assert next(r["limits"] for r in rows if r["key_id"] == mine) == limits
    assert (await people.call("company_admin", "PUT", path, {}))[0] == 200
    assert (await people.call("service", "POST", CHAT, body))[0] == 200


async def test_a_minute_ends() -> None:
    now = [0.0]
    limiter = KeyLimiter(GatewayConfig(), clock=lambda: now[0])
    from dataclasses import replace

    who = replace(ANONYMOUS, key_id="k", limits=KeyLimits(1, 10))
    await limiter.admit(who)
    await limiter.hold(who, 10)
    for call in (limiter.admit(who), limiter.hold(who, 1)):
        with pytest.raises(LimitExceeded):
            await call
    now[0] += 60
    await limiter.admit(who)
    await limiter.hold(who, 10)
