"""Ask every route and field of the gateway and of the model server, and write the table.

  python benchmarks/api_table.py            # writes docs/reference/api.md

A tiny model of random weights answers: what is shown is whether a request is answered or refused,
and the server's own reason, not how well a model answers. The gateway stands before the model
server with llama.cpp.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import uvicorn

from triptych.config import load_config
from triptych.config.gateway import GatewayConfig, UpstreamConfig
from triptych.lm.serve.app import create_app
from triptych.lm.serve.models import build_service, describe_model
from triptych.processes.ports import bind
from triptych.wire import fields
from triptych.wire.requests import ChatRequest, CompletionRequest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "api.md"
USER = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
          "additionalProperties": False}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
#: Accepted by the model server because clients send them.
NO_EFFECT = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")

CHAT: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"}, "frequency_penalty": 0.5,
    "function_call": "auto", "functions": [{"name": "f", "parameters": SCHEMA}],
    "logit_bias": {"5": -100}, "logprobs": True, "max_completion_tokens": 4, "max_tokens": 4,
    "messages": USER, "metadata": {"a": "b"}, "modalities": ["text"], "model": "m",
    "moderation": {"model": "m"}, "n": 2, "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "a"}, "presence_penalty": 0.5,
    "prompt_cache_key": "k", "prompt_cache_options": {}, "prompt_cache_retention": "24h",
    "reasoning_effort": "low", "response_format": {"type": "json_schema", "json_schema": {
        "name": "a", "schema": SCHEMA}},
    "safety_identifier": "s", "seed": 1, "service_tier": "auto", "stop": ["x"], "store": False,
    "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5,
    "tool_choice": "required", "tools": [TOOL], "top_logprobs": 2, "top_p": 0.5, "user": "u",
    "verbosity": "low", "web_search_options": {},
    "adapter": "acme", "chat_template_kwargs": {"a": 1}, "ignore_eos": True, "min_p": 0.1,
    "repetition_penalty": 1.1, "top_k": 5, "brand_new_field": 1,
}  # fmt: skip
WITH: dict[str, dict[str, Any]] = {
    "tool_choice": {"tools": [TOOL]}, "top_logprobs": {"logprobs": True},
    "stream_options": {"stream": True}, "parallel_tool_calls": {"tools": [TOOL]},
    "response_format": {"max_tokens": 40}, "tools": {"tool_choice": "auto"},
}  # fmt: skip
TEXT: dict[str, Any] = {
    "prompt": "The", "best_of": 1, "echo": True, "suffix": "end", "logprobs": 2, "n": 2,
    "stop": "x", "stream": True, "seed": 1, "temperature": 0.5,
}  # fmt: skip

Probe = tuple[str, str, str, str, dict[str, Any] | None]
"""Section, what is asked, method, path, body."""


def probes() -> Iterator[Probe]:
    """Yield every question of the table."""
    chat, text = "/v1/chat/completions", "/v1/completions"
    assert set(CHAT) >= fields.OPENAI_CHAT, fields.OPENAI_CHAT - set(CHAT)
    for name, value in CHAT.items():
        body = {"model": "m", "messages": USER, "max_tokens": 8, **WITH.get(name, {}), name: value}
        yield "chat", f"`{name}`", "POST", chat, body
    shapes: dict[str, Any] = {
        "content as parts": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "an image": [{"role": "user", "content": [PICTURE]}],
        "role `developer`": [{"role": "developer", "content": "a"}, *USER],
        "tool calls and results": [*USER, {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "1"}],
        "the assistant's last message continued": [*USER, {"role": "assistant", "content": "So"}],
    }  # fmt: skip
    for name, messages in shapes.items():
        yield "chat", name, "POST", chat, {"model": "m", "messages": messages, "max_tokens": 4}
    for name, value in TEXT.items():
        body = {"model": "m", "prompt": "The", "max_tokens": 4, name: value}
        yield "completions", f"`{name}`", "POST", text, body
    texts: dict[str, dict[str, Any]] = {
        "several texts": {"prompt": ["The", "A"]}, "token ids": {"prompt": [5, 6]},
        "several lists of ids": {"prompt": [[5, 6], [7]]},
        "`max_tokens: 0` with `echo`": {"prompt": "The", "max_tokens": 0, "echo": True,
                                        "logprobs": 1},
    }  # fmt: skip
    for name, more in texts.items():
        yield "completions", name, "POST", text, {"model": "m", "max_tokens": 4, **more}
    yield "other routes", "embeddings", "POST", "/v1/embeddings", {"model": "m", "input": "a"}
    yield "other routes", "responses", "POST", "/v1/responses", {
        "model": "m", "input": "Hi", "max_output_tokens": 4}  # fmt: skip
    yield "other routes", "Anthropic's messages", "POST", "/v1/messages", {
        "model": "m", "messages": USER, "max_tokens": 4}  # fmt: skip
    yield "other routes", "count tokens", "POST", "/v1/messages/count_tokens", {
        "model": "m", "messages": USER}  # fmt: skip
    yield "other routes", "models", "GET", "/v1/models", None
    yield "other routes", "one model", "GET", "/v1/models/m", None
    yield "other routes", "tokenize", "POST", "/tokenize", {"prompt": "Hi"}
    for name in ("batches", "files", "assistants", "audio/speech", "images/generations",
                 "moderations", "fine_tuning/jobs", "realtime"):  # fmt: skip
        yield "other routes", name, "GET", f"/v1/{name}", None


def outcome(client: httpx.Client, server: str, probe: Probe) -> str:
    """Ask one question and describe what came."""
    section, name, method, path, body = probe
    answer = client.request(method, path, json=body)
    text = answer.text
    field = name.strip("`")
    if answer.status_code == 200 and '"error":{' not in text:
        known: Any = {"chat": ChatRequest, "completions": CompletionRequest}.get(section)
        if (
            known
            and name.startswith("`")
            and field.isidentifier()
            and field not in known.model_fields
        ):
            return "passed on" if server == "gateway" else "ignored"
        return "works, changes nothing" if field in NO_EFFECT and server != "gateway" else "works"
    try:
        said = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = text[:80]
    return f"{answer.status_code}: {str(said).splitlines()[0][:120]}"


# -- what is asked -------------------------------------------------------------------------------


def tiny(folder: Path) -> Path:
    """Write a model of random weights."""
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    torch.manual_seed(0)
    shape = ModelConfig(
        model_type="qwen3", vocab_size=512, hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        max_position_embeddings=1024, eos_token_id=2,
    )  # fmt: skip
    words = iter(["The quick brown fox jumps over the lazy dog."] * 30)
    save_model(folder / "m", Transformer(shape).eval(), Tokenizer.train(words, vocab_size=400))
    return folder / "m"


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """Serve an application on a free port of loopback."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)


def model_app(folder: Path, engine: str) -> Any:
    """Build a model server's application with one engine."""
    config = load_config(None, [f"generate.engine={engine}", "generate.threads=1"])
    return create_app(build_service([describe_model(str(folder), Path, name="m")], config))


def gateway_app(home: Path, upstream: str) -> tuple[Any, str]:
    """Build a gateway's application, and the key to ask it with."""
    from triptych.tiers.api import Gateway
    from triptych.tiers.pipeline.runtime import Runtime
    from triptych.tiers.store import accounts, migrations
    from triptych.tiers.store.database import Database

    async def key() -> str:
        database = Database(f"sqlite:///{home / 'gateway.db'}")
        await migrations.upgrade(database)
        made = await accounts.create_key(database, name="table", role="admin", actor="table")
        await database.close()
        return made

    up = UpstreamConfig("local", f"{upstream}/v1", {"m": "m", "base": "m"})
    config = GatewayConfig(upstreams={"up": up}, limit_service=10_000_000)
    made = asyncio.run(key())
    return Gateway(Runtime(config, home=home)), made


def ask_all(addresses: dict[str, tuple[str, str]]) -> dict[tuple[str, str, str], dict[str, str]]:
    """Return what each server made of each question."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for server, (url, key) in addresses.items():
        sent = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=sent, timeout=120) as client:
            for probe in probes():
                row = found.setdefault((probe[0], probe[1], f"{probe[2]} {probe[3]}"), {})
                row[server] = outcome(client, server, probe)
    return found


def page(found: dict[tuple[str, str, str], dict[str, str]]) -> str:
    """Write the table."""
    lines = [
        "<!-- written by benchmarks/api_table.py from a run -->", "",
        "# What each API answers", "",
        "Every route and field, asked of the gateway (before a model server with llama.cpp) and of "
        "the model", "server with either engine. *Ignored*: accepted, since clients send it, and "
        "of no effect. *Passed on*:", "the gateway hands it to the upstream, whose matter it is. "
        "A refusal is shown with its own reason.", "",
    ]  # fmt: skip
    section = ""
    for (part, name, route), row in found.items():
        if part != section:
            section = part
            lines += ["", f"## {part}", "", "| | route | gateway | llama.cpp | torch |",
                      "|---|---|---|---|---|"]  # fmt: skip
        cells = [row[s].replace("|", "/") for s in ("gateway", "llama_cpp", "torch")]
        lines.append(f"| {name} | `{route}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["TRIPTYCH_HOME"] = str(home)
        folder = tiny(home)
        addresses: dict[str, tuple[str, str]] = {}
        for engine in ("llama_cpp", "torch"):
            addresses[engine] = stack.enter_context(serving(model_app(folder, engine))), "none"
        app, key = gateway_app(home, addresses["llama_cpp"][0])
        addresses["gateway"] = stack.enter_context(serving(app, lifespan="on")), key
        PAGE.write_text(page(ask_all(addresses)), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
