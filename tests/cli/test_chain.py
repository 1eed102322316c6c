"""The SDKs' own idioms through the gateway and the model server behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import uvicorn
from gateway_process import Process

from triptych.config import load_config
from triptych.lm.model.checkpoint import save_model
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.serve.app import create_app
from triptych.lm.serve.models import build_service, describe_model
from triptych.processes.ports import bind

PARAMETERS = {
    "type": "object",
    "properties": {"at": {"enum": ["sky", "sea"]}},
    "required": ["at"],
    "additionalProperties": False,
}
CONFIG = """
[gateway]
port = 0
[gateway.upstreams.own]
provider = "local"
address = "{url}/v1"
models = {{ base = "tiny", tiny = "tiny" }}
"""


@pytest.fixture(scope="module")
def model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import torch

    torch.manual_seed(0)
    config = ModelConfig(
        model_type="llama", vocab_size=384, hidden_size=64, intermediate_size=96,
        num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=8192,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    texts = iter(["The sky is blue, and so is the sea: look at it."] * 20)
    save_model(folder, Transformer(config).eval(), Tokenizer.train(texts, vocab_size=380))
    patch = pytest.MonkeyPatch()
    patch.setenv("TRIPTYCH_HOME", str(tmp_path_factory.mktemp("home")))
    loaded = load_config(None, ["generate.threads=1", "generate.max_batch=2"])
    app = create_app(build_service([describe_model(str(folder), Path)], loaded))
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=30)
    patch.undo()


@pytest.fixture(scope="module")
def gateway(model_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("gateway"))
    (process.home / "gateway.toml").write_text(CONFIG.format(url=model_server))
    process.start()
    yield process
    process.kill()


@pytest.mark.parametrize("stream", [False, True])
def test_s09_ten_turns_with_a_tool_by_the_openai_sdk(gateway: Process, stream: bool) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
    tool = {"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}
    messages: list[Any] = [{"role": "user", "content": "Colour?"}]
    for turn in range(10):
        asked: dict[str, Any] = {
            "model": "base", "messages": messages, "tools": [tool], "seed": 1, "max_tokens": 60,
            "tool_choice": "none" if turn % 2 else "required",
        }  # fmt: skip
        if stream and turn % 2:  # the helper below raises where an answer reaches its length
            pieces = client.chat.completions.create(**asked, stream=True)
            text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
            assert text
            messages.append({"role": "assistant", "content": text})
            messages.append({"role": "user", "content": "And now?"})
            continue
        if stream:
            with client.chat.completions.stream(**asked) as events:
                answer: Any = events.get_final_completion()
        else:
            answer = client.chat.completions.create(**asked)
        message = answer.choices[0].message
        messages.append(message)
        if turn % 2:
            assert message.content and not message.tool_calls
            messages.append({"role": "user", "content": "And now?"})
        else:
            (call,) = message.tool_calls
            assert json.loads(call.function.arguments)["at"] in ("sky", "sea")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "blue"})


@pytest.mark.parametrize("stream", [False, True])
def test_s09_ten_turns_with_a_tool_by_the_anthropic_sdk(gateway: Process, stream: bool) -> None:
    client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)
    tool: Any = {"name": "look", "input_schema": PARAMETERS}
    messages: list[Any] = [{"role": "user", "content": "Colour?"}]
    for turn in range(10):
        asked: dict[str, Any] = {
            "model": "tiny", "messages": messages, "tools": [tool], "max_tokens": 60,
            "tool_choice": {"type": "none" if turn % 2 else "any"},
        }  # fmt: skip
        if stream:
            with client.messages.stream(**asked) as events:
                answer: Any = events.get_final_message()
        else:
            answer = client.messages.create(**asked)
        messages.append({"role": "assistant", "content": answer.content})
        if turn % 2:
            assert [block.type for block in answer.content] == ["text"]
            messages.append({"role": "user", "content": "And now?"})
        else:
            (call,) = answer.content
            assert call.input["at"] in ("sky", "sea") and answer.stop_reason == "tool_use"
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "blue"}
            messages.append({"role": "user", "content": [result]})
