"""`triptych gateway conform` against three servers: ours, llama.cpp's, and a broken one."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from triptych.cli.main import main
from triptych.errors import UpstreamUnreachable, UsageError
from triptych.lm.export.gguf import export_gguf
from triptych.lm.generate.native import kept_signal_handlers
from triptych.processes import free_port
from triptych.tiers.conformance.running import conform, failed

Rows = dict[str, dict[str, Any]]


def results(url: str, **options: Any) -> Rows:
    return {row["check"]: row for row in asyncio.run(conform(url, **options))}


def wrong(found: Rows) -> dict[str, str]:
    return {name: row["note"] for name, row in found.items() if row["result"] == "wrong"}


def missing(found: Rows) -> set[str]:
    return {name for name, row in found.items() if row["result"] == "missing"}


def test_our_model_server_keeps_the_api(server) -> None:
    found = results(server.url)
    assert wrong(found) == {}
    assert failed(list(found.values())) == []
    assert missing(found) <= {"responses", "messages"}, "the gateway has these"
    works = {name for name, row in found.items() if row["result"] == "works"}
    assert {"logprobs", "json-schema", "stream-usage", "answer-sent-back"} <= works


@pytest.fixture
def llama_cpp_server(qwen3_folder: Path, tmp_path: Path) -> Iterator[str]:
    """Run llama.cpp's own HTTP server, from its package, on a model of ours."""
    import xllamacpp

    export_gguf(qwen3_folder, tmp_path / "model.gguf", dtype="f16")
    params = xllamacpp.CommonParams()
    params.model.path = str(tmp_path / "model.gguf")
    params.n_ctx, params.n_parallel = 2048, 2
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.fit_params = False
    params.verbosity = 0
    params.use_jinja = True
    params.port = free_port()
    with kept_signal_handlers():
        running = xllamacpp.Server(params)
    url = f"http://127.0.0.1:{params.port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(url + "/health").close()
            break
        except OSError:
            time.sleep(0.05)
    yield url
    del running


def test_the_server_of_llama_cpp_passes_and_what_differs_is_named(llama_cpp_server: str) -> None:
    found = results(llama_cpp_server)
    assert {found[name]["result"] for name in ("models", "chat", "stream", "usage")} == {"works"}
    assert found["health"]["result"] == "works"
    assert found["unknown-model"]["note"] == "status 200", "it answers under any model's name"
    assert set(wrong(found)) <= {"unknown-model", "stop"}, "stop: characters of random bytes"
    assert missing(found) == {"one-model", "embeddings", "metrics"}


@pytest.fixture
async def broken() -> Any:
    """Serve streams without an end, errors without a message, and usage that does not add up."""
    choice = {"index": 0, "finish_reason": "stop"}
    whole = {
        "object": "chat.completion",
        "choices": [{**choice, "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 9},
    }
    chunk = {"object": "chat.completion.chunk", "choices": [{**choice, "delta": {"content": "no"}}]}

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["model"] != "m":
            return web.Response(status=404, text="no")
        if not body.get("stream"):
            return web.json_response(whole)
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        await reply.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        return reply

    async def models(_: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": "m"}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}/v1"
    await runner.cleanup()


async def test_each_fault_of_a_broken_server_is_named_and_the_exit_code_says_so(
    broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = await conform(broken)
    found = {row["check"]: row for row in rows}
    assert found["usage"]["note"] == "total_tokens is not the sum"
    assert found["stream"]["note"] == "no [DONE] at the end"
    assert found["stream-equals-whole"]["result"] == "wrong"
    assert found["unknown-model"]["note"] == "404 without an error.message"
    assert found["embeddings"]["result"] == "missing"
    assert {"usage", "stream", "unknown-model"} <= set(failed(rows))
    only = ["--only", "usage", "--json"]
    code = await asyncio.to_thread(main, ["gateway", "conform", broken, *only])
    assert code == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["check"], row["result"]) == ("usage", "wrong")


async def test_an_address_where_nothing_answers_and_a_check_that_is_not_there_are_refused() -> None:
    with pytest.raises(UpstreamUnreachable):
        await conform(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UsageError, match="no check is called colour"):
        await conform("http://127.0.0.1:1", only=["colour"])
