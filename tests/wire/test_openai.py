"""The shapes are the ones the openai SDK reads."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from triptych.wire import openai, sse


def test_a_whole_chat_completion_is_what_the_sdk_reads() -> None:
    shape = openai.completion("chat", "m", [openai.chat_choice("hi")], openai.usage(3, 2, 1))
    read = ChatCompletion.model_validate(shape, strict=True)
    assert read.choices[0].message.content == openai.answer_text(shape) == "hi"
    assert read.usage is not None and read.usage.total_tokens == 5


def test_a_whole_text_completion_is_what_the_sdk_reads() -> None:
    shape = openai.completion("text", "m", [openai.text_choice("hi", "length")], openai.usage(3, 2))
    assert Completion.model_validate(shape, strict=True).choices[0].finish_reason == "length"
    assert openai.answer_text(shape) == "hi"


@given(st.text(alphabet=st.characters(codec="utf-8")), st.integers(0, 127))
def test_the_fast_writer_and_the_plain_builder_agree(text: str, index: int) -> None:
    for kind in ("chat", "text"):
        writer = openai.ChunkWriter(kind, "my/model", fingerprint="f")
        (event,) = sse.Parser().feed(writer.text(text, index))
        plain = openai.chunk(
            kind,
            "my/model",
            id=writer.id,
            created=writer.created,
            text=text,
            index=index,
            system_fingerprint="f",
        )
        assert orjson.loads(event.data) == plain
        assert openai.delta_text(plain, index) == text


def test_chunks_are_what_the_sdk_reads() -> None:
    writer = openai.ChunkWriter("chat", "m")
    parts = [
        writer.chunk(role="assistant", text=""),
        writer.text("a"),
        writer.chunk(finish_reason="stop"),
        writer.usage(openai.usage(1, 1)),
    ]
    read = [
        ChatCompletionChunk.model_validate(orjson.loads(event.data))
        for event in sse.Parser().feed(b"".join(parts))
    ]
    assert [c.choices[0].delta.content for c in read[:2]] == ["", "a"]
    assert read[2].choices[0].finish_reason == "stop"
    assert read[3].usage is not None and read[3].choices == []


def test_content_is_read_as_text_or_as_parts() -> None:
    assert openai.content_text("a") == "a"
    assert (
        openai.content_text([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]) == "ab"
    )
    with pytest.raises(ValueError, match="image_url"):
        openai.content_text([{"type": "image_url", "image_url": {"url": "x"}}])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (openai.error("no", status=429), "no"),
        ({"error": "plain"}, "plain"),
        ({"detail": "fastapi"}, "fastapi"),
        ("html", ""),
    ],
)
def test_an_error_is_read_in_every_shape(body: object, message: str) -> None:
    assert openai.error_message(body) == message
