"""Whatever an upstream answers, a client sees its answer or a typed failure, never a crash (C3)."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.errors import UpstreamError
from triptych.tiers.pipeline.accumulator import AnswerAccumulator
from triptych.tiers.pipeline.dispatch import has_token
from triptych.tiers.providers.base import Completion, UpstreamCall
from triptych.tiers.providers.openai import OpenAIProvider
from triptych.tiers.providers.transport import Transport
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.query import Query, Trace
from triptych.wire import openai as shapes
from triptych.wire.sse import Event

UPSTREAM = Upstream("u", "openai", "https://a.example/v1", {"base": "m"}, True)
PROVIDER = OpenAIProvider(UPSTREAM, Transport(UPSTREAM))
CALL = UpstreamCall("r", "chat", [{"role": "user", "content": "?"}], {}, "m", "base", 0.0)
#: What JSON can hold, with the names that mean something to us more often than others.
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner,
                                                                max_size=3),
    max_leaves=6,
)  # fmt: skip
BODY = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "model": JSON,
        "system_fingerprint": JSON,
        "usage": JSON
        | st.fixed_dictionaries({"prompt_tokens": JSON}, optional={"completion_tokens": JSON}),
        "choices": JSON
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.just(0) | JSON,
                    "text": JSON,
                    "finish_reason": JSON,
                    "message": JSON | st.fixed_dictionaries({}, optional={"content": JSON}),
                    "delta": JSON | st.fixed_dictionaries({}, optional={"content": JSON}),
                },
            ),
            max_size=2,
        ),
    },
)


def query() -> Query:
    return Query("r", "chat", [{"role": "user", "content": "?"}], {}, "base")


def counts_are_sane(trace: Trace) -> bool:
    used = (trace.usage.input_tokens, trace.usage.output_tokens)
    return all(type(n) is int and 0 <= n < 2**31 for n in used)


@given(BODY | JSON)
@settings(max_examples=150, deadline=None)
def test_c3_any_json_as_a_whole_answer_is_an_answer_or_a_typed_failure(body: Any) -> None:
    raw = orjson.dumps(body)
    try:
        completion = PROVIDER._checked(orjson.loads(raw), raw, CALL)
    except UpstreamError:
        return
    answer, trace = AnswerAccumulator(query()), Trace()
    answer.take_completion(completion)
    answer.settle(trace)
    assert isinstance(answer.text, str)
    assert answer.body() is completion.body
    assert counts_are_sane(trace)
    assert isinstance(completion, Completion)
    assert type(trace.finish_reason) is str


@given(BODY | JSON, st.booleans())
@settings(max_examples=150, deadline=None)
def test_c3_any_json_as_a_streamed_chunk_is_a_chunk_or_a_typed_failure(
    body: Any, started: bool
) -> None:
    try:
        frame = PROVIDER._frame(Event(orjson.dumps(body).decode()), CALL, started)
    except UpstreamError:
        return
    if frame is None:
        return
    answer, trace = AnswerAccumulator(query()), Trace()
    answer.keeping = True
    answer.take_chunk(frame.chunk)
    answer.settle(trace)
    assert isinstance(answer.text, str)
    assert orjson.dumps(answer.body())
    assert isinstance(shapes.delta_text(frame.chunk), str)
    assert isinstance(has_token(frame.chunk), bool)
    assert counts_are_sane(trace)
    assert frame.wire.startswith(b"data: {")


def test_c3_what_is_sound_is_never_refused() -> None:
    for choice in (
        {"delta": {}}, {"delta": None}, {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"content": None, "tool_calls": []}, "finish_reason": "stop"}, {"text": "x"},
    ):  # fmt: skip
        body = orjson.dumps({"choices": [{"index": 0, **choice}]}).decode()
        frame = PROVIDER._frame(Event(body), CALL, True)
        assert frame is not None and frame.chunk["choices"]


@given(st.lists(st.binary(max_size=40), max_size=6))
@settings(max_examples=100, deadline=None)
def test_c3_any_bytes_as_a_stream_end_in_a_typed_failure_or_in_silence(pieces: list[bytes]) -> None:
    from triptych.wire import sse

    parser = sse.Parser()
    for piece in pieces:
        try:
            events = parser.feed(b"data: " + piece + b"\n\n")
        except ValueError:
            return
        for event in events:
            try:
                PROVIDER._frame(event, CALL, False)
            except UpstreamError:
                continue
