"""Upstreams that speak Anthropic's or Google's own API answer clients of OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import openai
import orjson
import pytest
from aiohttp import ClientSession, web
from anthropic.types.message_create_params import MessageCreateParamsBase
from pydantic import TypeAdapter
from upstream_answers import DONE, delta, says

from triptych.config.gateway import UpstreamConfig

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


async def whole(client: openai.AsyncOpenAI, stream: bool, **asked: Any) -> Any:
    if not stream:
        return await client.chat.completions.create(model="m", **asked)
    more = {"stream_options": {"include_usage": True}}
    async with client.chat.completions.stream(model="m", **asked, **more) as events:
        return await events.get_final_completion()


# -- Anthropic: our own /v1/messages plays its part ----------------------------------------------


@pytest.fixture
async def claude(workshop: Any, monkeypatch: Any) -> Any:
    """Ask an upstream of Anthropic's API that hands each request to this gateway's own."""
    monkeypatch.setenv("CLAUDE_KEY", "sk-ant-1")
    behind, between = await workshop.upstream(), await workshop.upstream()
    gateway = await workshop.gateway({
        "claude": UpstreamConfig("anthropic", f"{between.url}/v1", {"m": "inner"},
                                 key_name="CLAUDE_KEY"),
        "up": UpstreamConfig("local", f"{behind.url}/v1", {"inner": "x"}),
    })  # fmt: skip

    async def behave(request: web.Request, body: Any) -> Any:
        call = {"id": "c1", "type": "function",
                "function": {"name": "look", "arguments": '{"at": "sky"}'}}  # fmt: skip
        answered = body["messages"][-1]["role"] == "tool"
        if body.get("stream"):
            pieces = [delta(role="assistant"), delta(reasoning_content="hm")]
            pieces += (
                [delta(content="so "), delta(content="blue"), delta(finish="stop")]
                if (answered)
                else [delta(tool_calls=[{**call, "index": 0}]), delta(finish="tool_calls")]
            )
            return await says(workshop, *pieces, DONE)(request, body)
        message: Any = {"role": "assistant", "reasoning_content": "hm"}
        message |= {"content": "so blue"} if answered else {"content": None, "tool_calls": [call]}
        reason = "stop" if answered else "tool_calls"
        choices = [{"index": 0, "message": message, "finish_reason": reason}]
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        return web.json_response({"id": "c", "model": "x", "choices": choices, "usage": usage})

    async def forward(request: web.Request, body: Any) -> Any:
        assert request.headers["x-api-key"] == "sk-ant-1" and "authorization" not in request.headers
        assert request.headers["anthropic-version"]
        url, sent = gateway.url + request.path, {"x-api-key": gateway.key}
        async with ClientSession() as session, session.post(url, json=body, headers=sent) as got:
            return web.Response(body=await got.read(), status=got.status,
                                content_type=got.content_type)  # fmt: skip

    behind.behaviour, between.behaviour = behave, forward
    return gateway, between, behind


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_a_picture_and_a_thought_pass_an_anthropic_upstream(claude, stream) -> None:
    gateway, between, behind = claude
    asked: Any = {"tools": [TOOL], "max_tokens": 64, "temperature": 1.5, "stop": ["END"],
                  "tool_choice": {"type": "function", "function": {"name": "look"}}}  # fmt: skip
    messages: list[Any] = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [PICTURE, {"type": "text", "text": "Colour?"}]},
    ]
    async with gateway.sdk() as client:
        first = await whole(client, stream, messages=messages, **asked)
        choice = first.choices[0]
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("look", {"at": "sky"})
        messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "blue"}]
        asked["tool_choice"] = "auto"
        second = await whole(client, stream, messages=messages, **asked)
    assert second.choices[0].message.content == "so blue"
    assert second.choices[0].message.reasoning_content == "hm"
    assert second.usage.total_tokens > 0
    for _, body in between.requests:
        TypeAdapter(MessageCreateParamsBase).validate_python(
            {k: v for k, v in body.items() if k != "stream"}
        )
    sent = behind.requests[-1][1]
    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert sent["messages"][1]["content"][0]["image_url"]["url"] == PICTURE["image_url"]["url"]
    assert (sent["temperature"], sent["stop"]) == (1.0, ["END"])
    assert {r["provider"] for r in await gateway.records()} == {"anthropic", "local"}


async def test_what_anthropic_has_no_word_for_is_refused_with_the_reason(claude) -> None:
    gateway, between, _ = claude
    async with gateway.sdk() as client:
        for more in ({"n": 2}, {"logprobs": True}):
            with pytest.raises(openai.APIStatusError, match="cannot be asked"):
                await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "x"}], **more
                )
    assert between.calls == 0


# -- Gemini: answers as its documentation shows them ---------------------------------------------

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2,
         "cachedContentTokenCount": 4, "totalTokenCount": 14}  # fmt: skip


def candidate(*parts: Any, reason: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    return found | ({"finishReason": reason} if reason else {})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_and_its_signature_pass_a_gemini_upstream(
    workshop, monkeypatch, stream
) -> None:
    monkeypatch.setenv("GEMINI_KEY", "AIza-1")
    upstream = await workshop.upstream()
    config = UpstreamConfig(
        "gemini", f"{upstream.url}/v1beta", {"m": "gemini-x"}, key_name="GEMINI_KEY"
    )
    gateway = await workshop.gateway({"google": config})
    called = {"functionCall": {"name": "look", "args": {"at": "sky"}}, "thoughtSignature": "sig"}
    thought = {"text": "hm", "thought": True}

    async def behave(request: web.Request, body: Any) -> Any:
        assert request.headers["x-goog-api-key"] == "AIza-1"
        answered = "functionResponse" in body["contents"][-1]["parts"][0]
        parts = [thought, {"text": "so "}, {"text": "blue"}] if answered else [called]
        head = {"modelVersion": "gemini-x-001", "responseId": "r"}
        if request.path.endswith(":streamGenerateContent"):
            assert request.query["alt"] == "sse"
            events = [{"candidates": [candidate(part)], **head} for part in parts[:-1]]
            last = candidate(parts[-1], reason="STOP")
            events.append({"candidates": [last], "usageMetadata": USAGE, **head})
            pieces = [b"data: " + orjson.dumps(event) + b"\r\n\r\n" for event in events]
            return await workshop.sse(request, pieces)
        found = {"candidates": [candidate(*parts, reason="STOP")], "usageMetadata": USAGE, **head}
        return web.json_response(found)

    upstream.behaviour = behave
    messages: list[Any] = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [PICTURE, {"type": "text", "text": "Colour?"}]},
    ]
    asked: Any = {"tools": [TOOL], "max_tokens": 64, "temperature": 0, "stop": "END",
                  "tool_choice": "required"}  # fmt: skip
    async with gateway.sdk() as client:
        first = await whole(client, stream, messages=messages, **asked)
        choice = first.choices[0]
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("look", {"at": "sky"})
        messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "blue"}]
        second = await whole(client, stream, messages=messages, **asked)
    message, usage = second.choices[0].message, second.usage
    assert (message.content, message.reasoning_content) == ("so blue", "hm")
    assert (usage.prompt_tokens, usage.completion_tokens) == (9, 5)
    assert usage.prompt_tokens_details.cached_tokens == 4
    path, sent = upstream.requests[-1]
    assert path.startswith("/v1beta/models/gemini-x:")
    assert sent["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert [turn["role"] for turn in sent["contents"]] == ["user", "model", "user"]
    assert sent["contents"][0]["parts"][0]["inlineData"] == {
        "mimeType": "image/png",
        "data": "AAAA",
    }
    turn = sent["contents"][1]["parts"][0]
    assert turn["functionCall"]["name"] == "look" and turn["thoughtSignature"] == "sig"
    told = sent["contents"][2]["parts"][0]["functionResponse"]
    assert (told["name"], told["response"]) == ("look", {"result": "blue"})
    assert sent["generationConfig"] == {
        "temperature": 0, "maxOutputTokens": 64, "stopSequences": ["END"]
    }  # fmt: skip
    assert sent["toolConfig"]["functionCallingConfig"] == {"mode": "ANY"}


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
@pytest.mark.parametrize("stream", [False, True])
async def test_whatever_they_answer_is_a_typed_failure(workshop, kind, stream) -> None:
    upstream = await workshop.upstream()
    config = UpstreamConfig(kind, f"{upstream.url}/v1", {"m": "x"})
    gateway = await workshop.gateway({"up": config}, retries=0, breaker_failures=100)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    for status, said in (
        (200, b"{}"), (200, b"[1]"), (200, b"<html>"), (200, b""), (500, b"{}"),
        (200, b'{"content": [{"type": "text"}], "candidates": [{"content": {"parts": [4]}}]}'),
        (200, b'{"error": {"message": "no"}}'), (429, b"{}"),
    ):  # fmt: skip

        async def behave(
            request: web.Request, _: Any, status: int = status, said: bytes = said
        ) -> Any:
            if stream and status == 200:
                return await workshop.sse(request, [b"data: " + said + b"\n\n"])
            return web.Response(body=said, status=status, content_type="application/json")

        upstream.behaviour = behave
        got, answer, _ = await gateway.post("/v1/chat/completions", body)
        assert got in (429, 502, 503) and answer["error"]["code"] != "internal", (status, said)
