"""Every chunk of an answer counts: for the filter, the cache, the record and its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.pipeline.accumulator import AnswerAccumulator, replay
from triptych.tiers.providers.base import Completion
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.query import Query, QueryContext, Trace

QUESTION = [{"role": "user", "content": "Why?"}]
ASK = {"messages": QUESTION, "temperature": 0}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 5},
}


def a_query(kind: Any = "chat") -> Query:
    return Query("r", kind, QUESTION, {}, "base")


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = [{"index": n, "finish_reason": None, **c} for n, c in enumerate(choices)]
    return {
        "id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "fake",
        "choices": named, **more,
    }  # fmt: skip


def answering(
    workshop: Any, whole: dict[str, Any], pieces: list[dict[str, Any]], *, done: bool = True
) -> Callable[..., Any]:
    """Make an upstream's behaviour: the whole answer, or the same as a stream."""

    async def behave(request: Any, body: dict[str, Any]) -> Any:
        from aiohttp import web

        if not body.get("stream"):
            return web.json_response(whole)
        lines = [b"data: " + orjson.dumps(piece) + b"\n\n" for piece in pieces]
        return await workshop.sse(request, [*lines, *([b"data: [DONE]\n\n"] if done else [])])

    return behave


async def serving(workshop: Any, behave: Any, **settings: Any) -> tuple[Any, Any]:
    upstream = await workshop.upstream()
    upstream.behaviour = behave
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("openai", f"{upstream.url}/v1", {"base": "m"})}, **settings
    )
    await gateway.set(provider__openai=True)
    return gateway, upstream


def events(raw: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


MESSAGES: dict[str, dict[str, Any]] = {
    "second choice": {"content": "the word is xyzzy"},
    "tool arguments": {
        "content": None,
        "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a":"xyzzy"}'}}
        ],
    },
    "reasoning": {"content": "fine", "reasoning_content": "I think of xyzzy"},
    "refusal": {"content": None, "refusal": "no xyzzy here"},
}


def halved(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Cut each text of a message in the middle of the blocked word."""
    raw = json.dumps(message)
    before, after = raw.split("xyzzy")
    first, second = json.loads(before + "xy" + after), json.loads(before + "zzy" + after)

    def tail(one: Any, two: Any) -> Any:
        """Keep of the second half what the first does not hold."""
        if isinstance(two, dict):
            return {k: tail(one[k], v) for k, v in two.items() if k in ("function",) or v != one[k]}
        if isinstance(two, list):
            return [{"index": n, **tail(one[n], v)} for n, v in enumerate(two)]
        return two[two.index("zzy") :] if "zzy" in two else two

    def head(one: Any) -> Any:
        if isinstance(one, dict):
            return {k: head(v) for k, v in one.items()}
        if isinstance(one, list):
            return [{"index": n, **head(v)} for n, v in enumerate(one)]
        return one[: one.index("xy") + 2] if isinstance(one, str) and "xy" in one else one

    return [head(first), tail(first, second)]


@pytest.mark.parametrize("where", MESSAGES)
@pytest.mark.parametrize("stream", [False, True])
async def test_b8_the_output_filter_sees_every_choice_argument_and_reasoning(
    workshop: Any, where: str, stream: bool
) -> None:
    message = {"role": "assistant", **MESSAGES[where]}
    fine = {"role": "assistant", "content": "fine"}
    both = [fine, message] if where == "second choice" else [message]
    whole = workshop.completion("", choices=[
        {"index": n, "message": m, "finish_reason": "stop"} for n, m in enumerate(both)
    ])  # fmt: skip
    one, two = halved(MESSAGES[where])
    before = [{"delta": {"content": "fine"}}] if where == "second choice" else []
    pieces = [
        chunk({"delta": {"role": "assistant", "content": "ok "}}),
        chunk(*before, {"delta": one}),
        chunk(*before, {"delta": two}),
        chunk(*([{"delta": {}, "finish_reason": "stop"}] * len(both))),
    ]
    gateway, _ = await serving(
        workshop, answering(workshop, whole, pieces), blocked_patterns=("xyzzy",)
    )
    status, answer, _ = await gateway.post("/v1/chat/completions", {**ASK, "stream": stream})
    if stream:
        assert b"zzy" not in answer
        assert events(answer)[-1]["error"]["code"] == "content_filter"
    else:
        assert status != 200
        assert "xyzzy" not in str(answer)
    [row] = await gateway.records()
    assert row["outcome"] == "blocked"


LOGPROBS = {"content": [{"token": "be", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
MORE = {"content": [{"token": "cause", "logprob": -0.25, "bytes": None, "top_logprobs": []}]}
RICH = [
    chunk({"delta": {"role": "assistant", "content": "", "reasoning_content": "hm"}}),
    chunk({"delta": {"content": "be", "reasoning_content": "m"}, "logprobs": LOGPROBS}),
    chunk({"delta": {"content": "cause"}, "logprobs": MORE}),
    chunk({"delta": {}, "finish_reason": "stop"}),
    {**chunk(), "usage": USAGE},
]
WHOLE = {
    "id": "c1", "object": "chat.completion", "created": 7, "model": "fake", "usage": USAGE,
    "choices": [{
        "index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "because", "reasoning_content": "hmm"},
        "logprobs": {"content": LOGPROBS["content"] + MORE["content"]},
    }],
}  # fmt: skip


@pytest.mark.parametrize("first", ["stream", "whole"])
async def test_c1_a_kept_answer_is_as_rich_as_the_fresh_one(workshop: Any, first: str) -> None:
    gateway, upstream = await serving(workshop, answering(workshop, WHOLE, RICH))
    ask = {**ASK, "logprobs": True}
    streamed = {**ask, "stream": True, "stream_options": {"include_usage": True}}
    await gateway.post("/v1/chat/completions", streamed if first == "stream" else ask)
    _, whole, headers = await gateway.post("/v1/chat/completions", ask)
    _, raw, _ = await gateway.post("/v1/chat/completions", streamed)
    assert (upstream.calls, headers["x-triptych-cached"]) == (1, "true")
    [choice] = whole["choices"]
    assert choice["message"]["content"] == "because"
    assert choice["message"]["reasoning_content"] == "hmm"
    assert choice["logprobs"] == {"content": LOGPROBS["content"] + MORE["content"]}
    assert whole["usage"] == USAGE
    found = events(raw)
    parts = [c for event in found for c in event["choices"]]
    for name, text in (("content", "because"), ("reasoning_content", "hmm")):
        assert "".join(c["delta"].get(name) or "" for c in parts) == text
    kept = [t for c in parts for t in (c.get("logprobs") or {}).get("content") or ()]
    assert kept == choice["logprobs"]["content"]
    assert found[-1]["usage"] == USAGE
    assert parts[-1]["finish_reason"] == "stop"


async def test_c1_no_count_of_cached_tokens_is_invented(workshop: Any) -> None:
    gateway, _ = await serving(workshop, answering(workshop, WHOLE, RICH[:-1]))
    await gateway.post("/v1/chat/completions", {**ASK, "stream": True})
    _, whole, headers = await gateway.post("/v1/chat/completions", ASK)
    assert headers["x-triptych-cached"] == "true"
    assert "prompt_tokens_details" not in whole["usage"]
    assert headers["x-triptych-tokens"] == "estimated"
    assert [row["tokens_source"] for row in await gateway.records()] == ["estimated"] * 2


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("cut", [0, 1])
async def test_c3_a_stream_with_any_choice_cut_off_is_a_failure(
    workshop: Any, cut: int, done: bool
) -> None:
    last = [{"delta": {}, "finish_reason": None if n == cut else "stop"} for n in range(2)]
    pieces = [chunk({"delta": {"content": "a"}}, {"delta": {"content": "b"}}), chunk(*last)]
    gateway, _ = await serving(workshop, answering(workshop, {}, pieces, done=done))
    _, raw, _ = await gateway.post("/v1/chat/completions", {**ASK, "n": 2, "stream": True})
    assert events(raw)[-1]["error"]["code"] == "upstream_truncated"
    [row] = await gateway.records()
    assert (row["outcome"], row["error_code"]) == ("failed", "upstream_truncated")


async def test_c3_done_without_any_reason_is_an_end(workshop: Any) -> None:
    pieces = [chunk({"delta": {"content": "a"}}), chunk({"delta": {"content": "b"}})]
    gateway, _ = await serving(workshop, answering(workshop, {}, pieces))
    _, raw, _ = await gateway.post("/v1/chat/completions", {**ASK, "stream": True})
    assert raw.endswith(b"data: [DONE]\n\n")
    assert [row["outcome"] for row in await gateway.records()] == ["ok"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/query"])
async def test_c6_an_only_choice_of_index_1_is_an_answer(workshop: Any, path: str) -> None:
    whole = workshop.completion("fine")
    whole["choices"][0]["index"] = 1
    gateway, _ = await serving(
        workshop, answering(workshop, whole, []), blocked_patterns=("xyzzy",)
    )
    body = {"input": "Why?"} if path == "/api/query" else ASK
    status, answer, _ = await gateway.post(path, body)
    assert status == 200
    assert "fine" in str(answer)


TOOLS = [
    {"tool_calls": [{"index": 0, "id": "t0", "type": "function",
                     "function": {"name": "find", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"q":'}}]},
    {"tool_calls": [{"index": 1, "id": "t1", "type": "function",
                     "function": {"name": "add", "arguments": "{}"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '"x"}'}}]},
]  # fmt: skip


def test_tool_calls_are_put_together_by_their_index() -> None:
    answer = AnswerAccumulator(a_query())
    answer.keeping = True
    for delta in TOOLS:
        answer.take_chunk(chunk({"delta": delta}))
    answer.take_chunk(chunk({"delta": {}, "finish_reason": "tool_calls"}))
    [choice] = answer.body()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {"id": "t0", "type": "function", "function": {"name": "find", "arguments": '{"q":"x"}'}},
        {"id": "t1", "type": "function", "function": {"name": "add", "arguments": "{}"}},
    ]
    assert answer.usage.output_tokens == -(-len('find{"q":"x"}add{}') // 4)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["content", "reasoning_content", "refusal"]),
            st.text(min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_a_stream_its_kept_answer_and_its_replay_are_one_answer(
    pieces: list[tuple[int, str, str]],
) -> None:
    streamed, again, whole = (AnswerAccumulator(a_query()) for _ in range(3))
    streamed.keeping = again.keeping = True
    said: dict[tuple[int, str], str] = {}
    for index, name, text in pieces:
        streamed.take_chunk({"choices": [{"index": index, "delta": {name: text}}]})
        said[index, name] = said.get((index, name), "") + text
    assert streamed.cut_off(done=False)
    for index in {index for index, _, _ in pieces}:
        end = {"index": index, "delta": {}, "finish_reason": "stop"}
        streamed.take_chunk({"choices": [end]})
    assert not streamed.cut_off(done=False)
    body = streamed.body()
    for choice in body["choices"]:
        for name in ("content", "reasoning_content", "refusal"):
            assert (choice["message"].get(name) or "") == said.get((choice["index"], name), "")
    for frame in replay(body, a_query(), ""):
        again.take_chunk(frame.chunk)
    assert again.body()["choices"] == body["choices"]
    whole.take_completion(Completion(orjson.loads(orjson.dumps(body))))
    assert whole.text == streamed.text == again.text
    assert whole.usage.output_tokens == streamed.usage.output_tokens == again.usage.output_tokens
    trace = Trace()
    streamed.settle(trace)
    assert trace.finish_reason == "stop"


async def test_c7_streamed_text_is_the_same_as_the_whole_answer(workshop: Any) -> None:
    upstream = await workshop.upstream("one two three")
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    service, caller = gateway.app.service, Principal("k", "service", "user", None, {})
    context = QueryContext("ann", temperature=0.5)
    pieces = [piece async for piece in service.stream_text("Why?", context, caller)]
    assert len(pieces) >= 2
    whole = await service.query("Why?", context, caller)
    assert "".join(pieces).strip() == whole.content == "one two three"
    assert [row["outcome"] for row in await gateway.records()] == ["ok", "ok"]


async def test_c7_streamed_text_that_is_left_early_is_on_record_as_cancelled(workshop: Any) -> None:
    upstream = await workshop.upstream("one two three")
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("local", f"{upstream.url}/v1", {"base": "m"})}
    )
    caller = Principal("k", "service", "user", None, {})
    pieces = gateway.app.service.stream_text("Why?", QueryContext("ann"), caller)
    await anext(pieces)
    await pieces.aclose()
    assert [row["outcome"] for row in await gateway.records()] == ["cancelled"]
