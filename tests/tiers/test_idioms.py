"""What clients of OpenAI's API do every day works through the gateway without a change."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from aiohttp import web
from upstream_answers import ASK, DONE, answers, ask_raw, delta, says


@pytest.mark.parametrize("stream", [False, True])
async def test_s09_ten_turns_of_the_sdks_own_idiom(workshop, place, stream) -> None:
    upstream, gateway = await place()
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    if stream:
        upstream.behaviour = says(
            workshop, delta(role="assistant", content=None),
            delta(tool_calls=[{"index": 0, **call}]), delta(finish="tool_calls"), DONE,
        )  # fmt: skip
    else:
        upstream.behaviour = answers(
            content=None, refusal=None, annotations=[], audio=None, function_call=None,
            reasoning_content="hm", tool_calls=[call],
        )  # fmt: skip
    messages: list[Any] = [{"role": "system", "content": "s"}, *ASK]
    async with gateway.sdk() as client:
        for _ in range(10):
            if stream:
                async with client.chat.completions.stream(model="m", messages=messages) as events:
                    answer = await events.get_final_completion()
            else:
                answer = await client.chat.completions.create(model="m", messages=messages)
            message = answer.choices[0].message
            messages.append(message)
            messages.append({"role": "tool", "tool_call_id": "c1", "content": "1"})
    sent = upstream.requests[-1][1]["messages"]
    assert len(sent) == 2 + 2 * 9
    echoed = sent[2]
    assert echoed["tool_calls"][0]["function"]["name"] == "f"
    assert echoed["content"] is None
    assert "refusal" not in echoed and "annotations" not in echoed


async def test_s01_null_is_absent_and_g12_no_harmless_field_is_refused(place) -> None:
    upstream, gateway = await place()
    body = {"model": "m", "messages": ASK, "n": None, "stream": None, "logprobs": None,
            "stop": None, "reasoning_effort": "low", "moderation": {}, "tools": [],
            "chat_template_kwargs": {"enable_thinking": False}, "brand_new": 7}  # fmt: skip
    status, _, _ = await gateway.post("/v1/chat/completions", body)
    sent = upstream.requests[-1][1]
    assert status == 200
    assert (sent["brand_new"], sent["moderation"], sent["reasoning_effort"]) == (7, {}, "low")
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert "n" not in sent and "stop" not in sent


@pytest.mark.parametrize(
    ("provider", "setting", "status", "passed"),
    [("openai", None, 200, False), ("local", None, 200, True), ("openai", "pass", 200, True),
     ("local", "drop", 200, False), ("local", "refuse", 422, False)],
)  # fmt: skip
async def test_unknown_fields_are_each_upstreams_setting(
    place, provider, setting, status, passed
) -> None:
    upstream, gateway = await place(provider, unknown_fields=setting)
    body = {"model": "m", "messages": ASK, "brand_new": 7, "top_k": 3}
    got, answer, _ = await gateway.post("/v1/chat/completions", body)
    assert got == status
    if status == 200:
        assert ("brand_new" in upstream.requests[-1][1]) == passed
        assert upstream.requests[-1][1]["top_k"] == 3
    else:
        assert answer["error"]["code"] == "unknown_field" and "brand_new" in str(answer)
        assert not upstream.requests


@pytest.mark.parametrize(
    "fields",
    [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"refusal": "no"},
     {"audio": {"data": "AAAA"}}, {"function_call": {"name": "f", "arguments": ""}},
     {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
async def test_b1_g29_whatever_a_model_says_first_opens_the_stream(workshop, place, fields) -> None:
    upstream, gateway = await place(first_token_timeout_s=0.4)
    thinking = [delta(**fields) for _ in range(12)]
    upstream.behaviour = says(
        workshop, *thinking, delta(content="so"), delta(finish="stop"), DONE, pause_s=0.06
    )
    async with gateway.sdk() as client:
        stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]
    assert len(chunks) == 14
    assert (await gateway.records())[-1]["outcome"] == "ok"


async def test_b2_a_stream_that_keeps_coming_outlives_the_total_time(workshop, place) -> None:
    upstream, gateway = await place(total_timeout_s=0.6)
    words = [delta(content="a") for _ in range(20)]
    upstream.behaviour = says(workshop, *words, delta(finish="stop"), DONE, pause_s=0.06)
    async with gateway.sdk() as client:
        stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
        assert len([chunk async for chunk in stream]) == 21
    assert (await gateway.records())[-1]["outcome"] == "ok"


@pytest.mark.parametrize("fails", [False, True])
async def test_b1_a_silent_stream_is_kept_alive_by_comments(workshop, place, fails) -> None:
    upstream, gateway = await place(keepalive_s=0.1, retries=0)

    async def behave(request: web.Request, body: Any) -> Any:
        await asyncio.sleep(0.5)
        if fails:
            return web.json_response({"error": {"message": "x"}}, status=500)
        return await workshop.sse(request, [delta(content="a"), delta(finish="stop"), DONE])

    upstream.behaviour = behave
    raw = await ask_raw(gateway, {"model": "m", "messages": ASK, "stream": True})
    assert raw.startswith(b": ping\n\n: ping\n\n")
    if fails:
        assert b'"upstream_failed"' in raw and b"[DONE]" not in raw
        async with gateway.sdk() as client:
            with pytest.raises(openai.APIError):
                stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
                _ = [chunk async for chunk in stream]
    else:
        assert raw.endswith(DONE)


async def test_c9_a_probe_asks_a_model_server_a_real_question(place) -> None:
    upstream, gateway = await place()
    provider = gateway.runtime.dispatcher.providers["up"]
    found = await provider.probe()
    assert (found.ok, found.revision) == (True, "sha-fake")

    async def behave(request: web.Request, body: Any) -> Any:
        if request.path == "/health":
            return web.json_response({"status": "ok", "revision": "r"})
        return web.json_response({"error": {"message": "no such model"}}, status=404)

    upstream.behaviour = behave
    found = await provider.probe()
    assert (found.ok, found.error_code, found.revision) == (False, "upstream_missing", "r")
