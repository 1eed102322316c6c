"""Tools against the model server: shown to the model, called, streamed, and their results read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.serve.tools import ToolReader

USER = [{"role": "user", "content": "Colour of the sky?"}]
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"at": {"enum": ["sky", "sea"]}},
            "required": ["at"],
            "additionalProperties": False,
        },
    },
}
OTHER = {"type": "function", "function": {"name": "wait", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize(
    ("written", "content", "called"),
    [
        ('<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>', "", ["look"]),
        ('I see.\n<tool_call>{"name":"look","arguments":{}}</tool_call>'
         '<tool_call>{"name":"wait","arguments":{}}</tool_call>', "I see.\n", ["look", "wait"]),
        ('{"name": "look", "parameters": {"at": "sky"}}', "", ["look"]),
        ('[TOOL_CALLS] [{"name": "wait", "arguments": {}}]', "", ["wait"]),
        ('{"answer": 1}', '{"answer": 1}', []),
        ('<tool_call>{"name": "none"}</tool_call>', '<tool_call>{"name": "none"}</tool_call>', []),
        ("a < b and a <tool", "a < b and a <tool", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_calls_are_read_however_they_are_written_and_cut(written, content, called, step) -> None:
    reader = ToolReader([LOOK, OTHER])
    shown = "".join(reader.push(written[at : at + step]) for at in range(0, len(written), step))
    rest, calls = reader.finish()
    assert shown + rest == content
    assert [call["function"]["name"] for call in calls] == called
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_s08_a_tool_that_must_be_called_is_called(client, choice, stream) -> None:
    messages: list[Any] = [*USER]
    asked: dict[str, Any] = {"model": "tiny", "tools": [LOOK], "max_tokens": 60, "seed": 1}
    if stream:
        with client.chat.completions.stream(
            messages=messages, tool_choice=choice, **asked
        ) as events:
            answer: Any = events.get_final_completion()
    else:
        answer = client.chat.completions.create(messages=messages, tool_choice=choice, **asked)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content in (None, "")
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments)["at"] in ("sky", "sea")
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "blue"}]
    free = client.chat.completions.create(messages=messages, tool_choice="none", **asked)
    assert free.choices[0].message.content


def test_tools_reach_the_model_through_its_template_or_in_words(qwen3_folder: Path) -> None:
    tokenizer = Tokenizer.load(qwen3_folder)
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "<|im_end|>"}}}
    messages = [*USER, {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "blue"}]  # fmt: skip
    ids = tokenizer.encode_chat(messages, tools=[LOOK])
    text = tokenizer.decode(ids)
    assert '"name": "look"' in text and "<tool_response>blue" in text
    plain = tokenizer.encode_chat(USER)
    assert tokenizer.encode_chat(USER, tools=()) == plain
    tokenizer.settings["chat_template"] = "{{ tools | tojson }}{{ messages | length }}"
    assert '"look"' in tokenizer.render_chat(messages, tools=[LOOK])


def test_a_tool_that_is_not_offered_is_refused(client) -> None:
    with pytest.raises(openai.BadRequestError, match="not among tools"):
        client.chat.completions.create(
            model="tiny", messages=USER, tools=[LOOK],
            tool_choice={"type": "function", "function": {"name": "wait"}},
        )  # fmt: skip


@pytest.mark.parametrize("engine", ["llama_cpp", "torch"])
def test_f11_penalties_and_bias_change_what_is_said(start, qwen3_folder: Path, engine) -> None:
    with start(qwen3_folder, settings=(f"generate.engine={engine}",)) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)

        def ids(**more: Any) -> list[int]:
            answer = client.completions.create(
                model="tiny", prompt="The fox", max_tokens=12, temperature=0,
                extra_body={"ignore_eos": True}, **more,
            )  # fmt: skip
            text = answer.choices[0].text
            return Tokenizer.load(qwen3_folder).encode(text)

        assert set(ids(logit_bias={"300": 100})) == {300}
        plain, forbidden = ids(), ids(logit_bias={"300": 100, "301": -100}, presence_penalty=2.0)
        assert 301 not in forbidden and plain != forbidden
        with pytest.raises(openai.BadRequestError, match="logit_bias"):
            ids(logit_bias={"99999999": 1})
