"""Equal upstreams share the load by weight or by how soon they answer; keys of one take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiohttp import web
from upstream_answers import ASK

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.pipeline.attempts.balance import Balancer
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.selector import Route

BODY = {"model": "m", "messages": ASK}


def route(name: str, **more: Any) -> Route:
    return Route(Upstream(name, "local", "http://x/v1", {"m": "m"}, False, **more), "base", "m")


def routes(**weights: float) -> list[Route]:
    return [route(name, group="g", weight=weight) for name, weight in weights.items()]


def test_weights_are_shares_and_strangers_keep_their_place() -> None:
    stranger = route("s")
    balancer = Balancer("weight")
    given = [*routes(a=3.0, b=1.0)[:1], stranger, *routes(a=3.0, b=1.0)[1:]]
    firsts: Counter[str] = Counter()
    for _ in range(4000):
        found = balancer.ordered(given, stream=False)
        assert found[1] is stranger and len({r.upstream.name for r in found}) == 3
        firsts[found[0].upstream.name] += 1
    assert 0.7 < firsts["a"] / 4000 < 0.8


def test_the_soonest_is_first_and_a_slow_one_is_tried_again_later() -> None:
    now = [1000.0]
    balancer = Balancer("latency", clock=lambda: now[0])

    def first() -> str:
        return balancer.ordered(routes(a=1.0, b=1.0), stream=False)[0].upstream.name

    for name, took_s, ok in (("a", 1.0, True), ("b", 0.2, True)):
        balancer.began(name, stream=False)
        balancer.ended(name, took_s, stream=False, ok=ok)
    assert first() == "b"
    balancer.began("b", stream=False)
    assert first() == "b"
    for _ in range(5):
        balancer.began("b", stream=False)
    assert first() == "a", "answers under way count"
    for _ in range(6):
        balancer.ended("b", 0.0, stream=False, ok=False)
    assert first() == "a", "one that refuses at once is not a fast one"
    balancer.began("a", stream=False)
    now[0] += 600
    balancer.ended("a", 1.0, stream=False, ok=True)
    assert first() == "b", "what was measured long ago counts less"


@pytest.mark.parametrize("balance", ["weight", "latency"])
async def test_two_equal_upstreams_share_and_stand_in_for_each_other(workshop, balance) -> None:
    ups = {name: await workshop.upstream(name) for name in ("one", "two")}
    declared = {
        name: UpstreamConfig("local", f"{up.url}/v1", {"m": "m", "base": "m"}, group="pair")
        for name, up in ups.items()
    }
    gateway = await workshop.gateway(declared, balance=balance, retries=0)
    answers = await asyncio.gather(*(gateway.post("/v1/chat/completions", BODY) for _ in range(40)))
    assert {status for status, _, _ in answers} == {200}
    assert min(ups["one"].calls, ups["two"].calls) >= 4

    async def dead(request: web.Request, body: Any) -> Any:
        return web.Response(status=500)

    ups["one"].behaviour = dead
    await gateway.set(fallback=False)
    for _ in range(12):
        status, answer, _ = await gateway.post("/v1/chat/completions", BODY)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "two")


async def test_keys_take_turns_and_one_that_is_refused_rests(workshop, monkeypatch) -> None:
    for name in ("A", "B", "C"):
        monkeypatch.setenv(f"KEY_{name}", f"secret-{name}")
    upstream = await workshop.upstream("fine")
    config = UpstreamConfig(
        "openai", f"{upstream.url}/v1", {"m": "m"}, key_name="KEY_A", key_names=("KEY_B", "KEY_C")
    )
    gateway = await workshop.gateway({"up": config})

    def used() -> Counter[str]:
        return Counter(h.get("authorization", "")[-1:] for h in upstream.headers)

    for _ in range(9):
        assert (await gateway.post("/v1/chat/completions", BODY))[0] == 200
    assert used() == {"A": 3, "B": 3, "C": 3}
    refused = {"secret-A": 429, "secret-B": 401}

    async def behave(request: web.Request, body: Any) -> Any:
        key = request.headers["authorization"].removeprefix("Bearer ")
        if status := refused.get(key):
            return web.json_response({"error": {"message": f"no {key}"}}, status=status)
        return await upstream.answer(request, body)

    upstream.behaviour = behave
    upstream.headers.clear()
    for stream in (False, True, False, True):
        status, answer, _ = await gateway.post("/v1/chat/completions", {**BODY, "stream": stream})
        assert status == 200 and b"error" not in (answer if stream else b"")
    assert used() == {"A": 1, "B": 1, "C": 4}, "a key that was refused is not asked again"
    refused["secret-C"] = 429
    status, answer, _ = await gateway.post("/v1/chat/completions", BODY)
    assert status in (429, 502, 503) and "secret" not in str(answer)
    records = await gateway.records()
    assert [r["attempts"] for r in records[:-1]] == [1] * 13, "no attempt of the budget is spent"
