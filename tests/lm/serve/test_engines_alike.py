"""A client's request is answered alike, whichever engine `auto` chose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pydantic
import pytest

from triptych.lm.generate.engine import Alternative, Token
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.serve.logprobs import logprobs_shape

USER = [{"role": "user", "content": "Colour of the sky?"}]
PROMPT = "The quick brown fox"


class Colour(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=5)
    sure: bool


@pytest.fixture(scope="module", params=["llama_cpp", "torch"])
def server(request: Any, start: Any, qwen3_folder: Path) -> Iterator[Any]:
    with start(qwen3_folder, settings=(f"generate.engine={request.param}",)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_f07_parse_gives_an_object_on_every_engine(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="tiny", messages=USER, response_format=Colour, seed=1, max_tokens=80
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


@pytest.mark.parametrize("stream", [False, True])
def test_choices_and_their_logprobs_are_whole(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {
        "model": "tiny", "messages": USER, "n": 3, "logprobs": True, "top_logprobs": 2,
        "max_tokens": 6, "seed": 5, "extra_body": {"ignore_eos": True},
    }  # fmt: skip
    entries: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    if stream:
        for chunk in client.chat.completions.create(stream=True, **asked):
            for choice in chunk.choices:
                if choice.logprobs is not None:
                    entries[choice.index] += choice.logprobs.content or []
    else:
        for whole in client.chat.completions.create(**asked).choices:
            entries[whole.index] += whole.logprobs.content  # type: ignore[union-attr,operator]
    for listed in entries.values():
        assert len(listed) == 6
        assert all(len(entry.top_logprobs) == 2 for entry in listed)


def test_f14h_the_assistants_last_message_is_continued(
    client: openai.OpenAI, server: Any, qwen3_folder: Path
) -> None:
    begun = [*USER, {"role": "assistant", "content": "The sky is <|im_end|> b"}]
    asked: Any = {"model": "tiny", "temperature": 0, "max_tokens": 5}
    answer = client.chat.completions.create(messages=begun, **asked)
    tokenizer = Tokenizer.load(qwen3_folder)
    head = tokenizer.encode_chat(USER, add_generation_prompt=True)
    ids = head + tokenizer.encode("The sky is <|im_end|> b")
    plain = client.completions.create(prompt=ids, **asked)
    assert answer.usage.prompt_tokens == len(ids)  # type: ignore[union-attr]
    assert answer.choices[0].message.content == plain.choices[0].text


def test_g15_a_prompt_alone_is_scored_with_no_new_token(
    client: openai.OpenAI, server: Any, qwen3_folder: Path
) -> None:
    ids = Tokenizer.load(qwen3_folder).encode(PROMPT)
    nats = server.service.engine_of("tiny").score(ids).nats
    for prompt in (PROMPT, ids):
        asked: Any = {"model": "tiny", "prompt": prompt, "max_tokens": 0, "echo": True}
        answer = client.completions.create(logprobs=1, **asked)
        (choice,) = answer.choices
        assert choice.text == PROMPT and choice.finish_reason == "length"
        given: Any = choice.logprobs.token_logprobs  # type: ignore[union-attr]
        assert given[0] is None and -sum(given[1:]) == pytest.approx(nats, abs=1e-3)
        usage: Any = answer.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), 0)
        streamed = [*client.completions.create(stream=True, **asked)]
        assert "".join(chunk.choices[0].text for chunk in streamed) == PROMPT


@pytest.mark.parametrize("stream", [False, True])
def test_s08_a_tool_that_must_be_called_is_called_on_every_engine(client, stream) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {
        "type": "object", "properties": {"at": {"enum": ["sky", "sea"]}}, "required": ["at"],
        "additionalProperties": False}}}  # fmt: skip
    asked: Any = {
        "model": "tiny", "messages": USER, "tools": [tool], "tool_choice": "required",
        "max_tokens": 60, "seed": 1,
    }  # fmt: skip
    if stream:
        with client.chat.completions.stream(**asked) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**asked)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["at"] in ("sky", "sea")


def test_f09_alternatives_with_equal_text_stay_apart() -> None:
    likely = (Alternative(7, b"a", -0.1), Alternative(9, b"a", -0.2), Alternative(3, b"\xe9", -3.0))
    shape = logprobs_shape("text", [Token(7, b"a", -0.1, likely)])
    assert shape["top_logprobs"] == [{"token_id:7": -0.1, "token_id:9": -0.2, "bytes:\\xe9": -3.0}]
    assert shape["tokens"] == ["token_id:7"]


def test_a_text_that_is_no_prompt_is_refused_in_words(server: Any) -> None:
    body = {"prompt": [99999999], "max_tokens": 0, "echo": True}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 400 and "vocabulary" in answer.json()["error"]["message"]
