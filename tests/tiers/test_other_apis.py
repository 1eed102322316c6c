"""The openai SDK's responses and the anthropic SDK work through the gateway, whole and streamed."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import orjson
import pytest
from aiohttp import web
from upstream_answers import DONE, delta, says

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}}
USAGE = {
    "prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 2},
}  # fmt: skip


@pytest.fixture
async def before(workshop, place):
    """Hand out an upstream that thinks, then calls a tool, then answers; and its gateway."""
    upstream, gateway = await place()

    async def behave(request: web.Request, body: Any) -> Any:
        answered = any(message["role"] == "tool" for message in body["messages"])
        if body.get("stream"):
            end = "stop"
            parts = [delta(content="so"), delta(content=" blue")]
            if not answered:
                end = "tool_calls"
                begun = {**CALL, "index": 0, "function": {"name": "look", "arguments": ""}}
                parts = [delta(content="I look."), delta(tool_calls=[begun])] + [
                    delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
                    for piece in ('{"at":', '"sky"}')
                ]
            thought = [delta(role="assistant"), delta(reasoning_content="hm")]
            usage = delta().replace(
                b'"choices":[{', b'"usage":%s,"choices":[{' % orjson.dumps(USAGE)
            )
            return await says(workshop, *thought, *parts, delta(finish=end), usage, DONE)(
                request, body
            )
        message: dict[str, Any] = {"role": "assistant", "reasoning_content": "hm"}
        message |= {"content": "so blue"} if answered else {"content": "I look.",
                                                            "tool_calls": [CALL]}  # fmt: skip
        reason = "stop" if answered else "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return web.json_response({"id": "c", "model": "m-1", "choices": [choice], "usage": USAGE})

    upstream.behaviour = behave
    return upstream, gateway


def claude(gateway: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
async def test_g25_ten_turns_with_a_tool_by_the_anthropic_sdk(before, stream) -> None:
    upstream, gateway = before
    tools = [{"name": "look", "description": "d", "input_schema": SCHEMA},
             {"type": "web_search_20250305", "name": "web_search"}]  # fmt: skip
    asked: dict[str, Any] = {
        "model": "m", "max_tokens": 64, "system": [{"type": "text", "text": "be brief"}],
        "tools": tools, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }  # fmt: skip
    messages: list[Any] = [{"role": "user", "content": "What colour is the sky?"}]
    async with claude(gateway) as client:
        for turn in range(10):
            if stream:
                async with client.messages.stream(messages=messages, **asked) as events:
                    answer = await events.get_final_message()
            else:
                answer = await client.messages.create(messages=messages, **asked)
            messages.append({"role": "assistant", "content": answer.content})
            if turn == 0:
                thought, said, call = answer.content
                assert (thought.type, thought.thinking) == ("thinking", "hm")
                assert (said.type, said.text) == ("text", "I look.")
                assert (call.name, call.input) == ("look", {"at": "sky"})
                assert answer.stop_reason == "tool_use"
                result = {"type": "tool_result", "tool_use_id": call.id, "content": "blue"}
                picture = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
                image = {"type": "image", "source": picture}
                messages.append({"role": "user", "content": [image, result]})
            else:
                assert [block.type for block in answer.content] == ["thinking", "text"]
                assert answer.content[1].text == "so blue"
                assert answer.stop_reason == "end_turn"
                messages.append({"role": "user", "content": "and now?"})
            usage = answer.usage
            assert (usage.input_tokens, usage.cache_read_input_tokens) == (7, 2)
            assert usage.output_tokens == 4
    sent = upstream.requests[-1][1]
    roles = [message["role"] for message in sent["messages"]]
    assert roles[:5] == ["system", "user", "assistant", "tool", "user"]
    assert sent["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"at":"sky"}'
    assert sent["messages"][4]["content"][0]["image_url"]["url"].startswith("data:image/png")
    assert len(sent["tools"]) == 1 and sent["parallel_tool_calls"] is False
    assert {r["outcome"] for r in await gateway.records()} == {"ok"}


async def test_g25_a_mistake_is_the_anthropic_sdks_own_error(before) -> None:
    _, gateway = before
    ask: dict[str, Any] = {"max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    async with claude(gateway) as client:
        with pytest.raises(anthropic.NotFoundError) as raised:
            await client.messages.create(model="none", **ask)
        assert raised.value.body["error"]["type"] == "not_found_error"
        with pytest.raises(anthropic.UnprocessableEntityError, match="temperature"):
            await client.messages.create(model="m", extra_body={"temperature": 3}, **ask)
        counted = await client.messages.count_tokens(model="m", messages=ask["messages"])
        assert counted.input_tokens > 0
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="no") as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model="m", **ask)


@pytest.mark.parametrize("stream", [False, True])
async def test_g25_ten_turns_with_a_tool_by_responses(before, stream) -> None:
    upstream, gateway = before
    tool = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": True}
    asked: dict[str, Any] = {
        "model": "m", "max_output_tokens": 64, "instructions": "be brief", "store": False,
        "tools": [tool, {"type": "web_search"}], "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}},
    }  # fmt: skip
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "Colour?"}]}]
    async with gateway.sdk() as client:
        for turn in range(10):
            if stream:
                async with client.responses.stream(input=items, **asked) as events:
                    answer = await events.get_final_response()
            else:
                answer = await client.responses.create(input=items, **asked)
            assert answer.status == "completed"
            items += answer.output
            kinds = [item.type for item in answer.output]
            if turn == 0:
                assert kinds == ["reasoning", "message", "function_call"]
                assert answer.output[0].content[0].text == "hm"
                call = answer.output[2]
                assert (call.name, call.arguments) == ("look", '{"at":"sky"}')
                result = {"type": "function_call_output", "call_id": call.call_id, "output": "b"}
                items.append(result)
            else:
                assert kinds == ["reasoning", "message"] and answer.output_text == "so blue"
                items.append({"role": "user", "content": "and now?"})
            assert answer.usage.input_tokens_details.cached_tokens == 2
            assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 4)
    sent = upstream.requests[-1][1]
    roles = [message["role"] for message in sent["messages"]]
    assert roles[:6] == ["system", "user", "assistant", "tool", "assistant", "user"]
    first = sent["messages"][2]
    assert (first["content"], first["reasoning_content"]) == ("I look.", "hm")
    assert first["tool_calls"][0]["id"] == "c1"
    assert (sent["reasoning_effort"], sent["max_completion_tokens"]) == ("low", 64)
    assert sent["response_format"]["json_schema"]["name"] == "a"
    assert len(sent["tools"]) == 1
    assert {r["outcome"] for r in await gateway.records()} == {"ok"}


async def test_g25_what_responses_cannot_do_here_is_said(before) -> None:
    _, gateway = before
    async with gateway.sdk() as client:
        for wrong in ({"conversation": "conv_1"}, {"background": True}):
            with pytest.raises(openai.BadRequestError, match="stored") as raised:
                await client.responses.create(model="m", input="x", **wrong)
            assert raised.value.param in wrong
        with pytest.raises(openai.UnprocessableEntityError, match="temperature"):
            await client.responses.create(model="m", input="x", temperature=3)


async def test_g25_an_error_in_the_middle_is_told_in_each_apis_own_words(workshop, place) -> None:
    upstream, gateway = await place()
    upstream.behaviour = says(workshop, delta(content="a"), b'data: {"error":{"message":"x"}}\n\n')
    async with gateway.sdk() as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        events = [event.type async for event in stream]
    assert events[0] == "response.created" and events[-1] == "response.failed"
    ask: list[Any] = [{"role": "user", "content": "x"}]
    async with claude(gateway) as client:
        with pytest.raises(anthropic.APIStatusError):
            async with client.messages.stream(model="m", max_tokens=9, messages=ask) as more:
                await more.get_final_message()


async def test_a_length_and_logprobs_are_told_by_responses(place) -> None:
    upstream, gateway = await place()
    entry = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}

    async def behave(request: web.Request, body: Any) -> Any:
        choice = {"index": 0, "message": {"role": "assistant", "content": "a"},
                  "finish_reason": "length", "logprobs": {"content": [entry]}}  # fmt: skip
        return web.json_response({"id": "c", "model": "m", "choices": [choice], "usage": USAGE})

    upstream.behaviour = behave
    async with gateway.sdk() as client:
        answer = await client.responses.create(
            model="m", input="x", top_logprobs=1, include=["message.output_text.logprobs"]
        )
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[0].content[0].logprobs[0].logprob == -0.5
    sent = upstream.requests[-1][1]
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 1)
