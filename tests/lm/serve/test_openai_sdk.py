"""The unmodified openai SDK works against a served model."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
import pytest

USER = [{"role": "user", "content": "The quick brown fox"}]


@pytest.fixture(scope="module")
def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_a_chat_is_answered_with_its_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=USER, max_tokens=8, temperature=0
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.model == "tiny" and answer.system_fingerprint
    assert answer.usage is not None and answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens > 4


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": USER, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert sum(bool(text) for text in texts) > 2
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 24


def test_a_plain_completion_continues_text_or_token_ids(client: openai.OpenAI) -> None:
    ids = [300, 301, 302]
    by_ids = client.completions.create(model="tiny", prompt=ids, max_tokens=5, temperature=0)
    assert by_ids.usage is not None and by_ids.usage.prompt_tokens == 3
    again = client.completions.create(model="tiny", prompt=ids, max_tokens=5, temperature=0)
    assert by_ids.choices[0].text == again.choices[0].text


def test_several_prompts_are_answered_in_their_order(client: openai.OpenAI) -> None:
    prompts = ["Hello", "The quick brown fox", "def add(a, b):"]
    asked: dict[str, Any] = {"model": "tiny", "max_tokens": 6, "temperature": 0}
    together = client.completions.create(prompt=prompts, n=2, **asked)
    apart = [client.completions.create(prompt=prompt, **asked) for prompt in prompts]
    assert [choice.index for choice in together.choices] == list(range(6))
    texts = [choice.text for choice in together.choices]
    assert texts == [one.choices[0].text for one in apart for _ in range(2)]
    assert together.usage is not None
    assert together.usage.prompt_tokens == sum(
        one.usage.prompt_tokens for one in apart if one.usage
    )
    ids = client.completions.create(prompt=[[300, 301], [302]], **asked)
    assert ids.usage is not None and ids.usage.prompt_tokens == 3


async def test_the_async_client_streams_several_answers_at_once(server: Any) -> None:
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    async def one(index: int) -> str:
        stream = await client.completions.create(
            model="tiny", prompt=f"Number {index}", max_tokens=16, temperature=0, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    texts = await asyncio.gather(*(one(index) for index in range(12)))
    assert len(set(texts)) > 6
    assert await one(3) == texts[3]
    await client.close()


def test_leaving_a_stream_cancels_the_answer(client: openai.OpenAI, server: Any) -> None:
    stream = client.completions.create(
        model="tiny", prompt="Go on", max_tokens=480, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 20
    while server.service._active["tiny"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.service._active["tiny"] == 0
    engine = server.service.engine_of("tiny")
    while engine._running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not engine._running


def test_logprobs_come_with_their_alternatives(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=USER, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)
        assert token.logprob < 0


def test_streamed_logprobs_are_those_of_the_whole_answer(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": USER,
        "max_tokens": 6,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
    }
    whole = client.chat.completions.create(**asked).choices[0].logprobs
    streamed = [
        token.token
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices and chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert whole is not None
    assert streamed == [token.token for token in whole.content or []]


def test_echo_with_logprobs_scores_the_prompt(client: openai.OpenAI, server: Any) -> None:
    answer = client.completions.create(
        model="tiny",
        prompt="The quick brown fox",
        max_tokens=1,
        temperature=0,
        logprobs=1,
        echo=True,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    score = server.service.engine_of("tiny").score("The quick brown fox")
    given = [value for value in logprobs.token_logprobs[1 : len(score.tokens)] if value is not None]
    assert -sum(given) == pytest.approx(score.nats, abs=1e-3)
    assert answer.choices[0].text.startswith("The quick brown fox")


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "Again", "temperature": 0}
    free = client.completions.create(**asked, max_tokens=20).choices[0].text
    stop = next(c for c in free[3:] if c.isascii() and c.isprintable())
    answer = client.completions.create(**asked, max_tokens=20, stop=[stop])
    assert answer.choices[0].text == free[: free.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_n_choices_differ_and_a_seed_repeats_them(client: openai.OpenAI) -> None:
    def ask(seed: int) -> list[str]:
        answer = client.completions.create(
            model="tiny", prompt="Hello", max_tokens=12, temperature=1.5, n=3, seed=seed
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        assert answer.usage is not None and answer.usage.completion_tokens <= 36
        return [choice.text for choice in answer.choices]

    first = ask(5)
    assert len(set(first)) == 3
    assert ask(5) == first
    assert ask(6) != first


def test_streamed_choices_are_told_apart_by_their_index(client: openai.OpenAI) -> None:
    seen: dict[int, str] = {}
    for chunk in client.completions.create(
        model="tiny",
        prompt="Hello",
        max_tokens=6,
        n=2,
        stream=True,
        seed=3,
        extra_body={"ignore_eos": True},
    ):
        choice = chunk.choices[0]
        seen[choice.index] = seen.get(choice.index, "") + choice.text
    assert set(seen) == {0, 1} and all(seen.values())


def test_a_json_schema_binds_the_answer(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}, "n": {"enum": [1, 2]}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="tiny",
        messages=USER,
        max_tokens=100,
        temperature=0.5,
        seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    )
    read = json.loads(answer.choices[0].message.content or "")
    assert read["city"] in ("Oslo", "Rome") and read["n"] in (1, 2)


def test_models_are_listed_and_looked_up(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


def test_an_unknown_model_is_404_and_names_the_nearest(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny") as caught:
        client.chat.completions.create(model="tny", messages=USER)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": 2.5}, "temperature must be between 0 and 2"),
        ({"top_p": 1.1}, "top_p must be between 0 and 1"),
        ({"max_tokens": 0}, "max_tokens must be between 1 and"),
        ({"n": 99}, "n must be between 1 and 16"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs must be between 0 and 20"),
        ({"seed": "seven"}, "seed"),
        ({"extra_body": {"temprature": 1}}, "did you mean temperature"),
        ({"presence_penalty": 3.0}, "presence_penalty must be between -2 and 2"),
    ],
)
def test_a_wrong_parameter_is_422_with_its_range(
    client: openai.OpenAI, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=words):
        client.chat.completions.create(model="tiny", messages=USER, **wrong)


def test_a_prompt_over_the_context_is_an_explicit_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tokens") as caught:
        client.completions.create(model="tiny", prompt="word " * 20_000, max_tokens=4)
    assert caught.value.code == "context_length_exceeded"


def test_an_answer_stops_where_the_context_ends(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="tiny", prompt="Go", max_tokens=5000, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.usage is not None and answer.usage.total_tokens <= 512
    assert answer.choices[0].finish_reason == "length"


def test_an_impossible_schema_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="tiny",
            messages=USER,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "no-such-type"}},
            },
        )


def test_images_are_refused_in_words(client: openai.OpenAI) -> None:
    content: Any = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(openai.BadRequestError, match="image_url"):
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": content}]
        )
