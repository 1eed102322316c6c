"""What clients of OpenAI's API do every day works against the model server without a change."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import openai
import pytest

USER = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_s09_ten_turns_of_the_sdks_own_idiom(client: openai.OpenAI) -> None:
    messages: list[Any] = [*USER]
    for _ in range(10):
        answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=2)
        messages.append(answer.choices[0].message)
        messages.append({"role": "user", "content": "b"})
    assert answer.choices[0].message.role == "assistant"


def test_s08_tool_calls_and_their_results_are_read(client: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages: list[Any] = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]
    answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=2)
    assert answer.usage is not None and answer.usage.prompt_tokens > 5


def test_s01_null_is_absent_and_no_harmless_field_is_refused(server: Any) -> None:
    body = {
        "messages": USER, "max_tokens": 2, "n": None, "stream": None, "logprobs": None,
        "reasoning_effort": "low", "parallel_tool_calls": True, "brand_new": 7,
        "stream_options": {"include_usage": None}, "frequency_penalty": None,
    }  # fmt: skip
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text


def test_s03_half_an_emoji_is_read(server: Any) -> None:
    raw = b'{"messages":[{"role":"user","content":"a \\ud83d"}],"max_tokens":2,"stop":["\\ud83d"]}'
    for data in (raw, b"\xef\xbb\xbf" + raw):
        sent = {"content-type": "application/json"}
        url = f"{server.url}/v1/chat/completions"
        assert httpx.post(url, content=data, headers=sent, timeout=60).status_code == 200
    raw = raw.replace(b'"user"', b'"b\\ud83d"')
    answer = httpx.post(url, content=raw, headers=sent, timeout=60)
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "messages.0.role"
