"""Copies to a challenger: counted, bounded, and without any effect on users, bills or records."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from triptych.config.gateway import UpstreamConfig


async def both(workshop: Any, **settings: Any) -> tuple[Any, Any, Any]:
    served, challenger = await workshop.upstream("fine"), await workshop.upstream("fine indeed")
    upstreams = {
        "served": UpstreamConfig("local", f"{served.url}/v1", {"base": "m"}),
        "candidate": UpstreamConfig("local", f"{challenger.url}/v1", {"base.challenger": "m2"}),
    }
    gateway = await workshop.gateway(upstreams, **settings)
    return served, challenger, gateway


async def copies(gateway: Any, amount: int) -> list[dict[str, Any]]:
    for _ in range(200):
        rows = await gateway.runtime.shadows.listed("base", 0.0, 100)
        if len(rows) >= amount:
            return list(rows)
        await asyncio.sleep(0.02)
    raise AssertionError(f"{len(rows)} copies of {amount}")


def asking(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "base", "messages": [{"role": "user", "content": text}], **more}


async def test_a_copy_is_counted_and_leaves_nothing_else(workshop: Any) -> None:
    served, challenger, gateway = await both(workshop)
    await gateway.post("/v1/chat/completions", asking("before"))
    assert challenger.calls == 0
    await gateway.set(shadow__base=True)
    _, answer, _ = await gateway.post("/v1/chat/completions", asking("one", tools=[]))
    assert answer["choices"][0]["message"]["content"] == "fine"
    await gateway.post("/v1/chat/completions", asking("two", stream=True))
    rows = await copies(gateway, 2)
    assert served.calls == 3
    assert [body["messages"] for _, body in challenger.requests if "messages" in body] == [
        asking("one")["messages"], asking("two")["messages"],
    ]  # fmt: skip
    assert {(row["upstream"], row["error_code"], row["refused"]) for row in rows} == {
        ("candidate", "", False)
    }
    assert {row["agreement"] for row in rows} == {0.5}
    # Neither the record nor the sums, the budgets or the cache know of a copy.
    records = await gateway.records()
    assert [row["upstream"] for row in records] == ["served"] * 3
    assert all(row["attempts"] == 1 for row in records)
    _, again, _ = await gateway.post("/v1/chat/completions", asking("one", tools=[]))
    assert again["choices"][0]["message"]["content"] == "fine"


async def test_a_challenger_that_fails_or_hangs_costs_no_user_anything(workshop: Any) -> None:
    _, challenger, gateway = await both(workshop, cache_bytes=0)
    await gateway.set(shadow__base=True, cache=False)

    async def fails(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=500)

    challenger.behaviour = fails
    status, _, headers = await gateway.post("/v1/chat/completions", asking("one"))
    assert status == 200
    assert headers["x-triptych-attempts"] == "1"
    (row,) = await copies(gateway, 1)
    assert row["error_code"]
    assert gateway.runtime.dispatcher.breakers["candidate"].state == "closed"

    async def hangs(request: web.Request, body: Any) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    challenger.behaviour = hangs
    for number in range(7):
        status, _, _ = await gateway.post("/v1/chat/completions", asking(f"hang {number}"))
        assert status == 200
    assert challenger.open <= 4
    assert gateway.runtime.shadows.not_copied == 3


async def test_a_challenger_is_asked_with_its_own_prompt_and_else_with_its_tiers(
    workshop: Any,
) -> None:
    _, challenger, gateway = await both(workshop)

    async def prompt(tier: str, text: str) -> None:
        status, _, _ = await gateway.post(f"/admin/prompts/{tier}", {"text": text})
        assert status == 200

    def system() -> str:
        return str(challenger.requests[-1][1]["messages"][0]["content"])

    await prompt("base", "Be brief.")
    await gateway.post("/v1/chat/completions", {**asking("one"), "model": "base.challenger"})
    assert system() == "Be brief."
    await prompt("base.challenger", "Be brief and right.")
    await gateway.post("/v1/chat/completions", {**asking("two"), "model": "base.challenger"})
    assert system() == "Be brief and right."
    await gateway.set(challenger__base=True)
    await gateway.post("/v1/chat/completions", asking("three"))
    assert system() == "Be brief and right."
