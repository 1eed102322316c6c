"""The cache answers the same question to the same asker only, and one flight serves all (D3)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.pipeline.cache import AnswerCache
from triptych.tiers.rules import catalogue
from triptych.tiers.rules.query import Contexts, Query
from triptych.tiers.rules.selector import Route, Selection

ASK = {"messages": [{"role": "user", "content": "Why?"}], "temperature": 0}
BODY = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}
ROUTE = ("base", "openai", "o", "m")


def a_selection(name: str = "o", revision: str = "r1", tier: str = "base") -> Selection:
    upstream = catalogue.build(
        name, UpstreamConfig("openai", "https://a.example", {tier: "m"}, revision=revision)
    )
    return Selection(tier, "explicit", (Route(upstream, tier, "m"),))


def a_query(**changes: Any) -> Query:
    query = Query("r", "chat", [{"role": "user", "content": "Why?"}], {"temperature": 0}, "base")
    return dataclasses.replace(query, **changes)


async def test_d3_the_same_question_is_asked_upstream_once(workshop) -> None:
    upstream = await workshop.upstream("because")
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    seen = []
    for stream in (False, False, True):
        status, answer, headers = await gateway.post(
            "/v1/chat/completions", {**ASK, "stream": stream}
        )
        assert status == 200
        assert "because" in str(answer)
        seen.append(headers.get("x-triptych-cached"))
    assert seen == [None, "true", "true"]
    assert upstream.calls == 1
    rows = await gateway.records()
    assert [bool(row["cached"]) for row in rows] == [False, True, True]
    assert {row["outcome"] for row in rows} == {"ok"}
    assert {row["input_tokens"] for row in rows} == {3}
    assert len({row["request_id"] for row in rows}) == 3


async def test_d3_a_streamed_answer_is_kept_and_replayed(workshop) -> None:
    upstream = await workshop.upstream("one two")
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    texts = []
    async with gateway.sdk() as client:
        for _ in range(2):
            stream = await client.chat.completions.create(
                model="base", messages=ASK["messages"], temperature=0, stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            chunks = [chunk async for chunk in stream]
            texts.append("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
            assert chunks[-1].usage.total_tokens == 5
    assert texts == ["one two ", "one two "]
    assert upstream.calls == 1


async def test_d3_a_stampede_is_one_flight(workshop) -> None:
    upstream = await workshop.upstream("because")

    async def slow(request: Any, body: Any) -> Any:
        await asyncio.sleep(0.2)
        return await upstream.answer(request, body)

    upstream.behaviour = slow
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    answers = await asyncio.gather(*(gateway.post("/v1/chat/completions", ASK) for _ in range(30)))
    assert {status for status, _, _ in answers} == {200}
    assert upstream.calls == 1


async def test_d3_errors_and_warm_questions_are_not_kept(workshop) -> None:
    upstream = await workshop.upstream("because")

    async def broken(request: Any, body: Any) -> Any:
        from aiohttp import web

        return web.Response(status=500)

    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}, retries=0
    )
    upstream.behaviour = broken
    assert (await gateway.post("/v1/chat/completions", ASK))[0] == 502
    upstream.behaviour = None
    assert (await gateway.post("/v1/chat/completions", ASK))[0] == 200
    before = upstream.calls
    warm = {**ASK, "temperature": 0.7}
    for _ in range(2):
        await gateway.post("/v1/chat/completions", warm)
    assert upstream.calls == before + 2
    await gateway.set(cache=False)
    await gateway.post("/v1/chat/completions", ASK)
    assert upstream.calls == before + 3


CHANGES: dict[str, Any] = {
    "company_id": "globex",
    "user_id": "bob",
    "kind": "text",
    "messages": [{"role": "user", "content": "Why not?"}],
    "params": {"temperature": 0, "max_tokens": 5},
    "tier_asked": "auto",
}


def test_d3_whatever_could_change_the_answer_changes_the_key() -> None:
    cache = AnswerCache(1000, 60)
    base = a_query(company_id="acme", user_id="ann")
    keys = [cache.key(base, a_selection(), {"cache": "on"}, (1,))]
    keys += [
        cache.key(dataclasses.replace(base, **{name: value}), a_selection(), {"cache": "on"}, (1,))
        for name, value in CHANGES.items()
    ]
    keys += [
        cache.key(base, a_selection(revision="r2"), {"cache": "on"}, (1,)),
        cache.key(base, a_selection(name="p"), {"cache": "on"}, (1,)),
        cache.key(base, a_selection(tier="company"), {"cache": "on"}, (1,)),
        cache.key(
            base,
            dataclasses.replace(a_selection(), contexts=Contexts(company={"company_name": "x"})),
            {"cache": "on"},
            (1,),
        ),
        cache.key(base, a_selection(), {"cache": "on", "fallback": "off"}, (1,)),
        cache.key(base, a_selection(), {"cache": "on"}, (2,)),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    again = cache.key(
        dataclasses.replace(base, request_id="s"), a_selection(), {"cache": "on"}, (1,)
    )
    assert again == keys[0]


WHO = st.tuples(
    st.sampled_from([None, "acme", "globex"]),
    st.sampled_from([None, "ann", "bob"]),
    st.text(max_size=3),
)


@given(WHO, WHO)
@settings(max_examples=200, deadline=None)
def test_d3_no_hit_crosses_a_company_or_a_user(one, two) -> None:
    cache = AnswerCache(100_000, 60)

    def key(who: tuple[Any, Any, str]) -> bytes:
        company, user, text = who
        query = a_query(
            company_id=company, user_id=user, messages=[{"role": "user", "content": text}]
        )
        found = cache.key(query, a_selection(), {}, ())
        assert found is not None
        return found

    cache.put(key(one), BODY, "", ROUTE)
    assert (cache.get(key(two)) is not None) == (one == two)


def test_d3_it_is_bounded_by_bytes_and_by_time() -> None:
    now = [0.0]
    cache = AnswerCache(20_000, 60, clock=lambda: now[0])
    for n in range(200):
        cache.put(str(n).encode(), BODY, "", ROUTE)
    assert cache.bytes <= 20_000
    assert cache.get(b"0") is None
    assert cache.get(b"199") is not None
    now[0] = 61.0
    assert cache.get(b"199") is None
    big = {"choices": [{"message": {"content": "x" * 30_000}, "finish_reason": "stop"}]}
    cache.put(b"big", big, "", ROUTE)
    assert cache.get(b"big") is None
    tools = {"choices": [{"message": {"tool_calls": [1]}, "finish_reason": "stop"}]}
    cache.put(b"tools", tools, "", ROUTE)
    assert cache.get(b"tools") is None


async def test_j2_the_output_filter_works_on_whole_answers_and_streams(workshop) -> None:
    upstream = await workshop.upstream("the secret word is xyzzy indeed")
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})},
        blocked_patterns=("is xyz+y",),
    )
    status, answer, _ = await gateway.post("/v1/chat/completions", ASK)
    assert (status, answer["error"]["code"]) == (403, "content_filter")
    _, raw, _ = await gateway.post("/v1/chat/completions", {**ASK, "stream": True})
    assert b"xyzzy" not in raw
    assert b"content_filter" in raw
    assert b"[DONE]" not in raw
    rows = await gateway.records()
    assert [row["outcome"] for row in rows] == ["blocked", "blocked"]
    assert "xyzzy" not in str(rows)
