"""Requests are read alike by the gateway and by the model server."""

from __future__ import annotations

import math

import pytest
from openai.types import completion_create_params as text_params
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.chat.chat_completion_message import ChatCompletionMessage
from openai.types.responses import response_create_params

from triptych.wire import fields, lenient_json, reading


@pytest.mark.parametrize(
    ("listed", "typed", "more"),
    [
        (fields.OPENAI_CHAT, chat_params.CompletionCreateParamsBase, {"stream"}),
        (fields.OPENAI_TEXT, text_params.CompletionCreateParamsBase, {"stream"}),
        (fields.OPENAI_EMBEDDINGS, embedding_create_params.EmbeddingCreateParams, set()),
        (fields.OPENAI_RESPONSES, response_create_params.ResponseCreateParamsBase, {"stream"}),
    ],
)
def test_g12_the_fields_are_those_of_the_installed_sdk(listed, typed, more) -> None:
    assert set(listed) == set(typed.__annotations__) | more


def test_s09_the_message_an_sdk_received_is_read_back() -> None:
    received = ChatCompletionMessage.model_construct(
        role="assistant", content=None, refusal=None, annotations=[], audio=None,
        tool_calls=[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        reasoning_content="hm",
    )  # fmt: skip
    (message,) = reading.messages([received.model_dump()])
    assert set(message) == {"role", "content", "tool_calls", "reasoning_content"}
    assert message["content"] is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ([], "messages"),
        ([7], "messages.0"),
        ([{"role": "boss", "content": "x"}], "messages.0.role"),
        ([{"role": "user"}], "messages.0.content"),
        ([{"role": "user", "content": ""}], "messages.0.content"),
    ],
)
def test_a_wrong_message_is_named(wrong, field) -> None:
    with pytest.raises(reading.FieldFault) as raised:
        reading.messages(wrong)
    assert raised.value.field == field


def test_s01_null_is_absent_and_only_a_misspelt_field_is_a_fault() -> None:
    body = {"n": None, "stream": None, "chat_template_kwargs": {"a": 1}, "brand_new": 1}
    assert reading.given(body, fields.CHAT) == {"chat_template_kwargs": {"a": 1}, "brand_new": 1}
    with pytest.raises(reading.FieldFault, match="did you mean temperature"):
        reading.given({"temprature": 1}, fields.CHAT)


def test_g03_surrogates_nan_and_a_byte_order_mark_pass() -> None:
    raw = b'\xef\xbb\xbf{"a":"half \\ud83d","b":NaN,"c":[-Infinity]}'
    value = lenient_json.loads(raw)
    assert value["a"] == "half \ud83d" and math.isnan(value["b"])
    assert lenient_json.dumps(value) == raw[3:]
    assert lenient_json.dumps({"b": value["b"]}) == b'{"b":NaN}'
    assert lenient_json.clean_dumps({"a": value["a"]}) == '{"a":"half \ufffd"}'.encode()
    assert lenient_json.well_formed("\ud83d\ude00 \ud83d") == "\U0001f600 \ufffd"
    assert lenient_json.loads(b'{"a":"\xe2\x82"}', errors="replace") == {"a": "\ufffd"}


@pytest.mark.parametrize("broken", [b"", b"{", b"[" * 100_000, b'{"a":"\xff"}', b"nope"])
def test_what_is_no_json_is_a_value_error(broken) -> None:
    with pytest.raises(ValueError):
        lenient_json.loads(broken)
