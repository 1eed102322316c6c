"""What an upstream or a client writes beyond the standard passes through as it came."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from upstream_answers import ASK, DONE, ask_raw, delta

from triptych.config.gateway import UpstreamConfig

WHOLE = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"finish_reason":"stop","message":{"role":"assistant","content":"fine"},"logprobs":%s}]}'
)
LOGPROBS = b'{"content":[{"token":"\\ud83d","logprob":-Infinity,"bytes":null,"top_logprobs":[]}]}'
CHUNK = (
    b'{"id":"c","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"fine"},'
    b'"logprobs":%s}]}' % LOGPROBS
)


def writes(raw: bytes, kind: str = "application/json", status: int = 200) -> Any:
    async def behave(request: web.Request, body: Any) -> Any:
        return web.Response(body=raw, content_type=kind, status=status)

    return behave


def line(raw: bytes) -> bytes:
    return b"data: " + raw + b"\n\n"


@pytest.mark.parametrize(
    ("raw", "passed"),
    [
        (WHOLE % LOGPROBS, LOGPROBS),
        (WHOLE.replace(b"fine", b"cut \\ud83d") % b"null", b"cut \\ud83d"),
        (WHOLE.replace(b'"index":0', b'"index":0.0') % b"null", b"fine"),
        (b"\xef\xbb\xbf" + WHOLE % b"null", b"fine"),
        (WHOLE.replace(b'"fine"', b'[{"type":"thinking","thinking":[]},{"type":"text",'
                       b'"text":"fine"}]') % b"null", b'"thinking"'),
    ],
    ids=["g05-nan", "g04-cut-emoji", "c16-index", "bom", "g06-thinking"],
)  # fmt: skip
async def test_a_whole_answer_passes_as_it_came(place, raw, passed) -> None:
    upstream, gateway = await place()
    upstream.behaviour = writes(raw, status=201)
    seeded = {"model": "m", "messages": ASK, "temperature": 0}
    for _ in range(2):
        assert passed in await ask_raw(gateway, seeded)
    (record, *_) = await gateway.records()
    assert (record["outcome"], upstream.calls) == ("ok", 1)


@pytest.mark.parametrize(
    ("raw", "passed"),
    [
        (line(CHUNK) + delta(finish="stop") + DONE, LOGPROBS),
        (line(CHUNK.replace(b",", b",\ndata: ", 1)) + delta(finish="stop") + DONE, b'"fine"'),
        (line(CHUNK) + delta(finish="stop") + b"data:  [DONE] \n\n", b'"fine"'),
        (b"\xef\xbb\xbf" + line(CHUNK) + delta(finish="stop") + DONE, b'"fine"'),
        (delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}])
         + delta(content=[{"type": "text", "text": "fi"}]) + delta(content="ne")
         + delta(finish="stop") + DONE, b'"thinking"'),
        (line(b'{"type":"ping"}') + line(CHUNK) + delta(finish="stop") + DONE, b'"fine"'),
    ],
    ids=["g05-nan", "c2-several-lines", "c5-blanks", "bom", "g06-thinking", "c4-no-choices"],
)  # fmt: skip
async def test_a_stream_passes_as_it_came(place, raw, passed) -> None:
    upstream, gateway = await place()
    upstream.behaviour = writes(raw, "text/event-stream")
    body = {"model": "m", "messages": ASK, "stream": True, "temperature": 0}
    fresh = await ask_raw(gateway, body)
    assert passed in fresh and fresh.endswith(DONE) and b"ping" not in fresh
    for piece in fresh.split(b"\n\n")[:-1]:
        assert piece.startswith(b"data: ") and b"\n" not in piece
    again = await ask_raw(gateway, body)
    assert passed in again and again.endswith(DONE)
    assert [r["outcome"] for r in await gateway.records()] == ["ok", "ok"]
    assert upstream.calls == 1


async def test_c4_an_error_event_is_an_error(place) -> None:
    upstream, gateway = await place(retries=0)
    for head in (b"", delta(content="a")):
        upstream.behaviour = writes(
            head + b'event: error\ndata: {"message":"overloaded"}\n\n', "text/event-stream"
        )
        raw = await ask_raw(gateway, {"model": "m", "messages": ASK, "stream": True})
        assert b"overloaded" in raw and b"[DONE]" not in raw
    assert {r["outcome"] for r in await gateway.records()} == {"failed"}


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf"])
async def test_s03_half_an_emoji_and_a_byte_order_mark_reach_the_upstream(place, head) -> None:
    upstream, gateway = await place()
    upstream.behaviour = writes(WHOLE % b"null")
    raw = head + b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"a \\ud83d"}]}'
    assert b"fine" in await ask_raw(gateway, raw)
    assert upstream.raw[-1].count(b'"content":"a \\ud83d"') == 1
    assert (await gateway.records())[-1]["outcome"] == "ok"


@pytest.mark.parametrize("counts", [False, True])
async def test_g08_usage_is_told_when_it_was_asked_for(place, counts) -> None:
    _, gateway = await place(stream_usage=counts)
    async with gateway.sdk() as client:
        stream = await client.chat.completions.create(
            model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == 1 and chunks[-1].usage and not chunks[-1].choices
    assert usages[0].total_tokens > 0
    assert (usages[0].model_extra or {}).get("estimated", False) is not counts


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2, 3], [[1, 2], [3]]], ids=str)
async def test_g15_completions_take_lists_and_token_ids(place, prompt) -> None:
    upstream, gateway = await place()
    choices = [{"index": n, "text": "x", "finish_reason": "length"} for n in range(2)]
    upstream.behaviour = writes(orjson.dumps({"id": "c", "model": "m", "choices": choices}))
    async with gateway.sdk() as client:
        answer = await client.completions.create(
            model="m", prompt=prompt, max_tokens=0, echo=True, logprobs=1
        )
    sent = upstream.requests[-1][1]
    assert (sent["prompt"], sent["max_tokens"]) == (prompt, 0)
    assert len(answer.choices) == 2
    assert (await gateway.records())[-1]["outcome"] == "ok"


async def test_g18_a_model_can_be_retrieved_and_keys_may_stand_elsewhere(place) -> None:
    _, gateway = await place()
    async with gateway.sdk() as client:
        for name in ("base", "m"):
            assert (await client.models.retrieve(name)).id == name
    async with aiohttp.ClientSession() as session:
        for header in ("api-key", "x-api-key"):
            sent = {header: gateway.key}
            async with session.get(f"{gateway.url}/v1/models/none/such", headers=sent) as answer:
                assert answer.status == 404
                assert (await answer.json())["error"]["code"] == "model_not_found"
            async with session.get(f"{gateway.url}/v1/models", headers=sent) as answer:
                assert answer.status == 200
        async with session.get(f"{gateway.url}/v1/models", headers={"api-key": "no"}) as answer:
            assert answer.status == 401


async def test_c7_an_image_is_not_counted_as_text(workshop) -> None:
    upstream = await workshop.upstream("fine")
    config = UpstreamConfig("local", f"{upstream.url}/v1", {"m": "m"}, context_tokens=8_000)
    gateway = await workshop.gateway({"up": config})
    picture = {"url": "data:image/png;base64," + "A" * 900_000}
    earlier = {"role": "user", "content": [{"type": "image_url", "image_url": picture}]}
    body = {"model": "m", "messages": [earlier, {"role": "assistant", "content": "a"}, *ASK]}
    status, _, _ = await gateway.post("/v1/chat/completions", body)
    assert status == 200
    assert len(upstream.requests[-1][1]["messages"]) == 3
