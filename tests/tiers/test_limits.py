"""Rate limits by key, user and address, in memory and shared through a real Redis (check J1)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from triptych.config.gateway import GatewayConfig, UpstreamConfig
from triptych.tiers.store import accounts

SCRIPT = {"s": UpstreamConfig("scripted", "", {"base": "echo"})}


def test_j1_the_defaults_are_the_originals() -> None:
    config = GatewayConfig()
    found = (config.limit_service, config.limit_user, config.limit_anonymous, config.limit_window_s)
    assert found == (1000, 100, 20, 900)


async def limited(workshop: Any, **settings: Any) -> Any:
    gateway = await workshop.gateway(SCRIPT, **settings)
    await gateway.set(provider__scripted=True, real_ai_only=False)
    return gateway


async def ask(gateway: Any, key: str | None = None) -> tuple[int, dict[str, str]]:
    headers = {} if key is None else {"authorization": f"Bearer {key}" if key else ""}
    status, _, got = await gateway.post("/api/query", {"input": "hi"}, **headers)
    return status, got


async def test_j1_beyond_the_limit_is_429_with_the_time_to_come_back(workshop) -> None:
    gateway = await limited(workshop, limit_service=3, limit_user=2, limit_window_s=100)
    assert [(await ask(gateway))[0] for _ in range(4)] == [200, 200, 200, 429]
    _, headers = await ask(gateway)
    assert 1 <= int(headers["retry-after"]) <= 100
    assert headers["x-should-retry"] == "false"
    await accounts.create_user(gateway.database, "ann", actor="t")
    keys = [
        await accounts.create_key(gateway.database, name=n, kind="user", user_id="ann", actor="t")
        for n in "ab"
    ]
    await gateway.runtime.refresh()
    assert [(await ask(gateway, key))[0] for key in (*keys, *keys)] == [200, 200, 429, 429], (
        "a user's keys share the user's limit"
    )
    assert len(await gateway.records()) == 5


async def test_j1_anonymous_callers_are_counted_by_address_and_get_the_base_tier_only(
    workshop,
) -> None:
    gateway = await limited(workshop, anonymous=True, limit_anonymous=2)
    gateway.key = ""
    assert [(await ask(gateway, ""))[0] for _ in range(2)] == [200, 200]
    assert (await ask(gateway, ""))[0] == 429
    forged = {"x_forwarded_for": "1.2.3.4", "authorization": ""}
    status, _, _ = await gateway.post("/api/query", {"input": "hi"}, **forged)
    assert status == 429, "a header does not make another address"


@pytest.mark.database
async def test_j1_two_workers_with_redis_never_exceed_the_limit_together(
    workshop, redis_url
) -> None:
    one = await limited(workshop, redis_url=redis_url, limit_service=50)
    two = await workshop.gateway(SCRIPT, key=one.key, redis_url=redis_url, limit_service=50)
    answers = await asyncio.gather(*(ask(gateway) for _ in range(100) for gateway in (one, two)))
    statuses = [status for status, _ in answers]
    assert statuses.count(200) == 50
    assert statuses.count(429) == 150


@pytest.mark.database
async def test_a_dead_redis_does_not_stop_the_gateway(workshop, redis_url) -> None:
    gateway = await limited(workshop, redis_url="redis://127.0.0.1:9", limit_service=3)
    assert [(await ask(gateway))[0] for _ in range(4)] == [200, 200, 200, 429], (
        "without its Redis a worker counts for itself"
    )
