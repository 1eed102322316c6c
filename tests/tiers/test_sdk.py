"""The unmodified openai SDK sees through the gateway what it sees without it (check 1).

Every case runs against the upstream directly, then through the gateway; the objects must be equal
except for the few fields that are the gateway's own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import openai
import orjson
import pytest
from aiohttp import web
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from triptych.config.gateway import UpstreamConfig

ASK = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class City(BaseModel):
    name: str


def choice(index: int = 0, **message: Any) -> dict[str, Any]:
    whole = {"role": "assistant", "content": "fine", "refusal": None, **message}
    return {"index": index, "message": whole, "finish_reason": "stop", "logprobs": None}


async def model_server(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer as OpenAI would, richly, by what is asked."""
    if request.path.endswith("/models"):
        return web.json_response({"object": "list", "data": []})
    base: dict[str, Any] = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m-2026",
        "system_fingerprint": "fp_1", "service_tier": "default",
    }  # fmt: skip
    if request.path.endswith("/completions") and "prompt" in body:
        text = {
            "index": 0,
            "text": body["prompt"] + "!",
            "finish_reason": "length",
            "logprobs": None,
        }
        return web.json_response(
            {**base, "object": "text_completion", "choices": [text], "usage": USAGE}
        )
    choices = [choice(n) for n in range(body.get("n", 1))]
    if body.get("tools"):
        call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        choices = [choice(content=None, tool_calls=[call]) | {"finish_reason": "tool_calls"}]
    if body.get("logprobs"):
        entry = {"token": "fine", "logprob": -0.1, "bytes": [102], "top_logprobs": []}
        choices[0]["logprobs"] = {"content": [entry], "refusal": None}
    if body.get("response_format"):
        choices = [choice(content='{"name": "Rome"}')]
    if body.get("max_tokens") == 1:
        choices = [choice(content="f") | {"finish_reason": "length"}]
    if not body.get("stream"):
        return web.json_response({**base, "choices": choices, "usage": USAGE})
    return await stream(request, base, body)


USAGE = {
    "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
}  # fmt: skip


async def stream(request: web.Request, base: dict[str, Any], body: dict[str, Any]) -> Any:
    base = {**base, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if body.get("tools"):
        begun = {"index": 0, "id": "c1", "type": "function"}
        deltas = [
            {"tool_calls": [{**begun, "function": {"name": "look", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]},
        ]
    else:
        deltas += [{"content": piece} for piece in ("fi", "n", "e \u00fc\U0001f389")]
    finish = "tool_calls" if body.get("tools") else "stop"
    events = [
        {**base, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas
    ]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append({**base, "choices": [], "usage": USAGE})
    raw = b": ping\r\n\r\n" + b"".join(b"data: " + orjson.dumps(e) + b"\r\n\r\n" for e in events)
    raw += b"data: [DONE]\r\n\r\n"
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for start in range(0, len(raw), 37):  # cut anywhere, also inside a character
        await response.write(raw[start : start + 37])
    return response


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "temperature 0": {"temperature": 0},
    "sampling": {"temperature": 0.3, "top_p": 0.9, "seed": 4, "presence_penalty": 0.5},
    "three choices": {"n": 3},
    "stop": {"stop": ["\n", "END"]},
    "one token": {"max_tokens": 1},
    "completion tokens": {"max_completion_tokens": 9},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "tools": {"tools": [TOOL], "tool_choice": "auto"},
    "json": {"response_format": {"type": "json_object"}},
    "user and metadata": {"user": "u", "metadata": {"a": "b"}, "store": False},
    "system": {"messages": [{"role": "system", "content": "be"}, *ASK]},
    "developer": {"messages": [{"role": "developer", "content": "be"}, *ASK]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    "tool result": {
        "messages": [
            *ASK,
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            ]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
        ]
    },
    "reasoning": {"reasoning_effort": "low", "verbosity": "low"},
    "logit bias": {"logit_bias": {"5": -100}},
}  # fmt: skip


@pytest.fixture
async def both(workshop) -> Any:
    """Give the SDK twice: straight to the upstream, and through the gateway."""
    upstream = await workshop.upstream()
    upstream.behaviour = model_server
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}, cache_bytes=0
    )
    direct = AsyncOpenAI(base_url=f"{upstream.url}/v1", api_key="x", max_retries=0)
    through = gateway.sdk()
    yield direct, through, upstream, gateway
    await direct.close()
    await through.close()


async def test_every_case_gives_the_same_object_whole_and_streamed(both) -> None:
    direct, through, upstream, _ = both
    for name, options in CASES.items():
        asked = {"messages": ASK, **options}
        one = await direct.chat.completions.create(model="m", **asked)
        two = await through.chat.completions.create(model="base", **asked)
        assert two.model_dump() == one.model_dump(), name
        (_, sent_direct), (_, sent_through) = upstream.requests[-2:]
        assert sent_through == sent_direct, name
        for usage in (False, True):
            extra = {"stream_options": {"include_usage": True}} if usage else {}
            chunks = []
            for client, model in ((direct, "m"), (through, "base")):
                events = await client.chat.completions.create(
                    model=model, stream=True, **asked, **extra
                )
                chunks.append([event.model_dump() async for event in events])
            assert chunks[1] == chunks[0], f"{name} streamed, usage {usage}"


async def test_the_helpers_of_the_sdk_work(both) -> None:
    _, through, _, _ = both
    parsed = await through.chat.completions.parse(model="base", messages=ASK, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Rome")
    async with through.chat.completions.stream(model="base", messages=ASK) as events:
        async for _ in events:
            pass
        final = await events.get_final_completion()
    assert final.choices[0].message.content == "fine \u00fc\U0001f389"
    async with through.chat.completions.with_streaming_response.create(
        model="base", messages=ASK
    ) as raw:
        assert raw.headers["x-triptych-tier"] == "base"
        assert b"fine" in await raw.read()
    answer = await through.chat.completions.create(model="base", messages=ASK)
    assert answer._request_id.startswith("req_")
    models = [model.id async for model in through.models.list()]
    assert models[:4] == ["base", "company", "abstraction", "auto"]


async def test_plain_completions_work_whole(both) -> None:
    direct, through, _, _ = both
    one = await direct.completions.create(model="m", prompt="so", max_tokens=3)
    two = await through.completions.create(model="base", prompt="so", max_tokens=3)
    assert two.model_dump() == one.model_dump()
    assert two.choices[0].text == "so!"


async def test_the_synchronous_client_works_too(both) -> None:
    _, _, _, gateway = both

    def ask() -> str:
        with OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key) as client:
            whole = client.chat.completions.create(model="base", messages=ASK)
            pieces = client.chat.completions.create(model="base", messages=ASK, stream=True)
            text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
            return f"{whole.choices[0].message.content}|{text}"

    assert await asyncio.to_thread(ask) == "fine|fine \u00fc\U0001f389"


@pytest.mark.parametrize(
    ("options", "error", "status"),
    [
        ({"model": "nope"}, openai.NotFoundError, 404),
        ({"temperature": 3}, openai.UnprocessableEntityError, 422),
        ({"messages": []}, openai.UnprocessableEntityError, 422),
        ({"messages": [{"role": "user", "content": ""}]}, openai.UnprocessableEntityError, 422),
        ({"messages": [{"role": "boss", "content": "x"}]}, openai.UnprocessableEntityError, 422),
        ({"extra_body": {"tempreature": 1}}, openai.UnprocessableEntityError, 422),
        ({"n": 0}, openai.UnprocessableEntityError, 422),
        ({"model": "company"}, openai.PermissionDeniedError, 403),
    ],
)
async def test_a_mistake_is_the_sdks_own_error(both, options, error, status) -> None:
    _, through, upstream, _ = both
    before = upstream.calls
    with pytest.raises(error) as raised:
        await through.chat.completions.create(**{"model": "base", "messages": ASK, **options})
    assert raised.value.status_code == status
    assert raised.value.body["message"]
    assert upstream.calls == before


async def test_a_bad_key_is_the_sdks_own_error_and_floods_nobody(both) -> None:
    _, _, upstream, gateway = both
    before = upstream.calls
    async with gateway.sdk("tri_wrong") as client:
        for _ in range(20):
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="base", messages=ASK)
    assert upstream.calls == before
    assert await gateway.records() == []


async def test_a_hundred_at_once_each_get_their_own_answer(both) -> None:
    _, through, upstream, gateway = both

    async def echo(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.json_response(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
             "choices": [choice(content=body["messages"][0]["content"])], "usage": USAGE}
        )  # fmt: skip

    upstream.behaviour = echo
    answers = await asyncio.gather(
        *(
            through.chat.completions.create(
                model="base", messages=[{"role": "user", "content": f"question {n}"}]
            )
            for n in range(100)
        )
    )
    assert [a.choices[0].message.content for a in answers] == [f"question {n}" for n in range(100)]
    assert len(await gateway.records()) == 100


# -- an older major of the same SDK --------------------------------------------------------------

OLDER = """
import json, sys
import openai
asked = json.load(sys.stdin)
direct = openai.OpenAI(base_url=asked["direct"], api_key="x", max_retries=0)
through = openai.OpenAI(base_url=asked["through"], api_key=asked["key"], max_retries=0)
for name, options in asked["cases"].items():
    options = {"messages": [{"role": "user", "content": "hi"}], **options}
    whole = [
        client.chat.completions.create(model=model, **options).model_dump()
        for client, model in ((direct, "m"), (through, "base"))
    ]
    assert whole[0] == whole[1], (name, whole)
    options["stream"] = True
    streamed = [
        [e.model_dump() for e in client.chat.completions.create(model=model, **options)]
        for client, model in ((direct, "m"), (through, "base"))
    ]
    assert streamed[0] == streamed[1], (name, "streamed")
for expected, call in (
    (openai.NotFoundError, lambda: through.chat.completions.create(model="none", messages=[
        {"role": "user", "content": "hi"}])),
    (openai.UnprocessableEntityError, lambda: through.chat.completions.create(
        model="base", messages=[])),
    (openai.AuthenticationError, lambda: through.with_options(api_key="tri_x").models.list()),
):
    try:
        call()
    except expected as error:
        assert error.code
    else:
        raise AssertionError(expected)
assert "base" in [model.id for model in through.models.list()]
print(openai.__version__, len(asked["cases"]))
"""


@pytest.mark.prove
async def test_an_older_major_of_the_sdk_sees_the_same(both, tmp_path) -> None:
    _, _, upstream, gateway = both

    async def run(*command: str, text: str = "") -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate(text.encode())
        return process.returncode or 0, output.decode()

    python = str(tmp_path / "older" / "bin" / "python")
    assert (await run(sys.executable, "-m", "venv", str(tmp_path / "older")))[0] == 0
    status, said = await run(python, "-m", "pip", "install", "--quiet", "openai<2")
    if status:
        assert not os.environ.get("CI"), said
        pytest.skip(f"the older SDK cannot be installed here: {said[-300:]}")
    cases = {name: case for name, case in CASES.items() if name != "reasoning"}
    asked = {
        "direct": f"{upstream.url}/v1", "through": f"{gateway.url}/v1", "key": gateway.key,
        "cases": cases,
    }  # fmt: skip
    status, said = await run(python, "-c", OLDER, text=orjson.dumps(asked).decode())
    assert status == 0, said[-3000:]
    assert said.startswith("1.")
