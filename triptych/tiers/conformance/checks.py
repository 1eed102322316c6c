"""The checks: each asks one thing of the API and ends as works, refused, missing or wrong."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from triptych.tiers.conformance.asking import Address, Ended, error_text, expect

Check = Callable[[Address], Awaitable[str]]
CHECKS: dict[str, Check] = {}
_FINISHED = {"stop", "length", "tool_calls", "content_filter", "function_call"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Look up the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
_SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def check(function: Check) -> Check:
    """List a check under its name."""
    CHECKS[function.__name__.replace("_", "-")] = function
    return function


def _choice(completion: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = completion["choices"][0]
    message = found.get("message")
    expect(isinstance(message, dict) and message.get("role") == "assistant", "no assistant message")
    expect(found.get("finish_reason") in _FINISHED, f"finish_reason {found.get('finish_reason')}")
    return found


def _text(completion: dict[str, Any]) -> str:
    content = _choice(completion)["message"].get("content")
    expect(isinstance(content, str), f"content is {type(content).__name__}")
    return str(content)


def _check_usage(usage: Any) -> dict[str, int]:
    expect(isinstance(usage, dict), "no usage")
    asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
    expect(isinstance(asked, int) and asked > 0, f"prompt_tokens {asked}")
    expect(isinstance(answered, int) and answered >= 0, f"completion_tokens {answered}")
    expect(usage.get("total_tokens") == asked + answered, "total_tokens is not the sum")
    found: dict[str, int] = usage
    return found


@check
async def models(address: Address) -> str:
    """Ask for the list of models."""
    body = (await address.get(address.base + "/models")).json()
    names = [one.get("id") for one in body.get("data", ())]
    expect(body.get("object") == "list" and names, "no list of models")
    return f"{len(names)}: {', '.join(map(str, names[:3]))}"


@check
async def one_model(address: Address) -> str:
    """Ask for one model by its name."""
    body = (await address.get(f"{address.base}/models/{address.model}")).json()
    expect(body.get("id") == address.model, f"id is {body.get('id')!r}")
    return ""


@check
async def chat(address: Address) -> str:
    """Ask for a whole chat answer."""
    return repr(_text(await address.chat()))[:40]


@check
async def usage(address: Address) -> str:
    """Have tokens counted."""
    found = _check_usage((await address.chat()).get("usage"))
    return f"{found['prompt_tokens']} + {found['completion_tokens']}"


@check
async def max_tokens(address: Address) -> str:
    """Have an answer cut at a number of tokens."""
    found = await address.chat(max_tokens=2)
    counted = (found.get("usage") or {}).get("completion_tokens", 0)
    expect(counted <= 2, f"{counted} tokens")
    reason = _choice(found)["finish_reason"]
    if reason != "length":
        raise Ended("unclear", "the answer ended by itself")
    return ""


@check
async def stop(address: Address) -> str:
    """Have an answer end before a text."""
    whole = _text(await address.chat())
    if len(whole) < 3:
        raise Ended("unclear", "the answer is too short")
    mark = whole[len(whole) // 2]
    cut = await address.chat(stop=[mark])
    expect(mark not in _text(cut), f"{mark!r} is in the answer")
    expect(_choice(cut)["finish_reason"] == "stop", "finish_reason is not stop")
    return ""


@check
async def repeatable(address: Address) -> str:
    """Get the same answer twice at temperature 0."""
    first, second = [_text(await address.chat(seed=1)) for _ in range(2)]
    expect(first == second, f"{first[:30]!r}, then {second[:30]!r}")
    return ""


@check
async def stream(address: Address) -> str:
    """Have an answer streamed."""
    found = await address.stream()
    expect(found.chunks, "no chunk")
    expect(found.done, "no [DONE] at the end")
    kinds = {chunk.get("object") for chunk in found.chunks}
    expect(kinds == {"chat.completion.chunk"}, f"objects {kinds}")
    reasons = [c.get("finish_reason") for chunk in found.chunks for c in chunk.get("choices", ())]
    expect(len([reason for reason in reasons if reason]) == 1, "not one finish_reason")
    rate = len(found.chunks) / found.total_s if found.total_s else 0.0
    return f"first after {found.first_s:.3f} s, {rate:.1f} chunks/s"


@check
async def stream_equals_whole(address: Address) -> str:
    """Get the same text streamed and whole."""
    whole, streamed = _text(await address.chat()), (await address.stream()).text()
    expect(whole == streamed, f"{whole[:30]!r}, streamed {streamed[:30]!r}")
    return ""


@check
async def stream_usage(address: Address) -> str:
    """Have tokens counted at the end of a stream."""
    found = await address.stream(stream_options={"include_usage": True})
    last = found.chunks[-1] if found.chunks else {}
    expect(last.get("choices") == [], "the last chunk has choices or is missing")
    _check_usage(last.get("usage"))
    return ""


@check
async def abandoned_stream(address: Address) -> str:
    """Leave a stream after its first chunk, then ask again."""
    await address.stream(stop_after=1, max_tokens=64)
    _text(await address.chat())
    return ""


@check
async def parallel(address: Address) -> str:
    """Ask four times at once."""
    found = await asyncio.gather(*(address.stream() for _ in range(4)))
    expect(all(one.done and one.chunks for one in found), "a stream did not end")
    return ""


@check
async def several_choices(address: Address) -> str:
    """Ask for two answers to one question."""
    found = await address.chat(n=2, temperature=1)
    indices = sorted(choice.get("index", -1) for choice in found["choices"])
    expect(indices == [0, 1], f"indices {indices}")
    return ""


@check
async def logprobs(address: Address) -> str:
    """Ask for the log probability of each token, with alternatives."""
    found = await address.chat(logprobs=True, top_logprobs=3)
    parts: list[Any] = (_choice(found).get("logprobs") or {}).get("content") or []
    expect(parts, "no logprobs.content")
    for part in parts:
        value = part.get("logprob")
        expect(isinstance(value, (int, float)) and value <= 1e-4, f"logprob {value}")
        expect(len(part.get("top_logprobs") or ()) == 3, "not three alternatives")
    raw = b"".join(bytes(part.get("bytes") or ()) for part in parts)
    text = _text(found)
    expect(raw.decode("utf-8", "replace").strip() == text.strip(), "the bytes are not the text")
    return f"{len(parts)} tokens"


@check
async def forced_tool(address: Address) -> str:
    """Have a named tool called."""
    forced = {"type": "function", "function": {"name": "weather"}}
    question = [{"role": "user", "content": "What is the weather in Rome?"}]
    found = await address.chat(question, tools=[_TOOL], tool_choice=forced, max_tokens=128)
    calls = _choice(found)["message"].get("tool_calls") or []
    if not calls and _choice(found)["finish_reason"] == "length":
        raise Ended("unclear", "cut off before the call was whole")
    expect(calls and calls[0]["function"]["name"] == "weather", "no call of weather")
    arguments = _parsed(calls[0]["function"].get("arguments"), found)
    expect(arguments.get("city") in ("Rome", "Oslo"), f"arguments {arguments}")
    return ""


def _parsed(text: Any, completion: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, TypeError) as error:
        if _choice(completion)["finish_reason"] == "length":
            raise Ended("unclear", "cut off before the JSON was whole") from error
        raise Ended("wrong", f"no JSON: {str(text)[:40]!r}") from error
    return found


@check
async def tool_result(address: Address) -> str:
    """Hand the result of a tool back."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    messages = [
        {"role": "user", "content": "What is the weather in Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    _choice(await address.chat(messages, tools=[_TOOL]))
    return ""


@check
async def json_schema(address: Address) -> str:
    """Have an answer follow a JSON schema."""
    shape = {"name": "answer", "strict": True, "schema": _SCHEMA}
    wanted = {"type": "json_schema", "json_schema": shape}
    found = await address.chat(response_format=wanted, max_tokens=64)
    parsed = _parsed(_text(found), found)
    expect(set(parsed) == {"ok"} and isinstance(parsed["ok"], bool), f"{parsed}")
    return ""


@check
async def json_object(address: Address) -> str:
    """Have an answer be a JSON object."""
    question = [{"role": "user", "content": "Answer in JSON: is water wet?"}]
    wanted = {"type": "json_object"}
    found = await address.chat(question, response_format=wanted, max_tokens=128)
    expect(isinstance(_parsed(_text(found), found), dict), "no object")
    return ""


@check
async def content_parts(address: Address) -> str:
    """Send a message as a list of parts."""
    parts = [{"type": "text", "text": "Answer "}, {"type": "text", "text": "yes."}]
    _text(await address.chat([{"role": "user", "content": parts}]))
    return ""


@check
async def answer_sent_back(address: Address) -> str:
    """Send the server's own message back, as the SDK's users do."""
    question = {"role": "user", "content": "Answer yes."}
    message = _choice(await address.chat([question]))["message"]
    _text(await address.chat([question, message, question]))
    return ""


@check
async def explicit_nulls(address: Address) -> str:
    """Send null for what is optional, as clients in Java, C# and Go do."""
    _text(await address.chat(n=None, stop=None, logprobs=None, tools=None, seed=None))
    return ""


@check
async def half_an_emoji(address: Address) -> str:
    """Send a lone surrogate; an error of its kind is an answer, a crash is not."""
    question = {"role": "user", "content": "MARK"}
    body = json.dumps({"model": address.model, "messages": [question], "max_tokens": 4})
    raw = body.replace("MARK", "\\ud83d").encode()
    found = await address.post("/chat/completions", None, raw=raw)
    expect(found.status < 500, f"status {found.status}")
    if found.status != 200:
        expect(error_text(found.body), f"{found.status} without an error.message")
        raise Ended("refused", error_text(found.body))
    return ""


@check
async def completions(address: Address) -> str:
    """Have a text continued."""
    body = {"model": address.model, "prompt": "One, two,", "max_tokens": 8, "temperature": 0}
    found = (await address.post("/completions", body)).json()
    expect(found.get("object") == "text_completion", f"object {found.get('object')!r}")
    expect(isinstance(found["choices"][0].get("text"), str), "no text")
    return ""


@check
async def embeddings(address: Address) -> str:
    """Have two texts embedded."""
    body = {"model": address.model, "input": ["one", "two"]}
    found = (await address.post("/embeddings", body)).json()
    vectors = [row.get("embedding") for row in found.get("data", ())]
    expect(len(vectors) == 2 and all(isinstance(v, list) and v for v in vectors), "not two vectors")
    expect(len(vectors[0]) == len(vectors[1]), "vectors of two lengths")
    expect(all(math.isfinite(x) for v in vectors for x in v), "a number that is not finite")
    return f"{len(vectors[0])} numbers"


async def _refusal(address: Address, body: Any, raw: bytes | None = None) -> str:
    found = await address.post("/chat/completions", body, raw=raw)
    expect(400 <= found.status < 500, f"status {found.status}")
    expect(error_text(found.body), f"{found.status} without an error.message")
    return f"{found.status}"


@check
async def unknown_model(address: Address) -> str:
    """Name a model that is not there."""
    question = [{"role": "user", "content": "hi"}]
    return await _refusal(address, {"model": "no-such-model-7f3a", "messages": question})


@check
async def broken_json(address: Address) -> str:
    """Send a body that is no JSON."""
    return await _refusal(address, None, raw=b'{"model": ')


@check
async def wrong_type(address: Address) -> str:
    """Send a text where a number belongs."""
    question = [{"role": "user", "content": "hi"}]
    body = {"model": address.model, "messages": question, "temperature": "warm"}
    return await _refusal(address, body)


@check
async def responses(address: Address) -> str:
    """Ask by OpenAI's Responses API."""
    body = {"model": address.model, "input": "Answer yes.", "max_output_tokens": 16}
    found = (await address.post("/responses", body)).json()
    expect(found.get("object") == "response", f"object {found.get('object')!r}")
    return ""


@check
async def messages(address: Address) -> str:
    """Ask by Anthropic's Messages API."""
    question = [{"role": "user", "content": "Answer yes."}]
    body = {"model": address.model, "max_tokens": 16, "messages": question}
    found = (await address.post("/messages", body)).json()
    expect(found.get("type") == "message", f"type {found.get('type')!r}")
    return ""


@check
async def health(address: Address) -> str:
    """Ask whether it lives, as a balancer does."""
    found = await address.get(address.root + "/health")
    if found.status == 404:
        raise Ended("missing")
    expect(found.status == 200, f"status {found.status}")
    return ""


@check
async def metrics(address: Address) -> str:
    """Ask for metrics of Prometheus' kind."""
    found = await address.get(address.root + "/metrics")
    if found.status in (404, 501):
        raise Ended("missing", str(found.status))
    expect(found.status == 200 and found.kind.startswith("text/"), f"status {found.status}")
    return ""
