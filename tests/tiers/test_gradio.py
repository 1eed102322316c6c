"""A real Gradio application as a Space: its events become tokens (checks C2 and C7)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from triptych.config.gateway import UpstreamConfig

ASK = [{"role": "user", "content": "Hi there"}]


class App:
    """One Gradio application for the whole module; importing Gradio is what costs."""

    def __init__(self) -> None:
        import gradio

        self.told: list[dict[str, Any]] = []
        self.stopped = threading.Event()
        self.heard = threading.Semaphore(0)

        def generate(
            prompt: str, history: str, max_new_tokens: int = 64, temperature: float = 0.7
        ) -> Iterator[str]:
            self.told.append(
                {
                    "prompt": prompt,
                    "history": history,
                    "max_new_tokens": max_new_tokens,
                    "temperature": temperature,
                }
            )
            if prompt == "fail":
                raise gradio.Error("<b>boom</b>")
            if prompt == "rewrite":
                yield "one two"
                yield "another"
                return
            text = ""
            if prompt == "in turn":
                for word in range(5):
                    text += f"word{word} "
                    yield text
                    self.heard.acquire(timeout=60)
                return
            try:
                for word in range(400 if prompt == "endless" else 5):
                    text += f"word{word} "
                    yield text
                    time.sleep(0.03)
            finally:
                self.stopped.set()

        with gradio.Blocks() as demo:
            gradio.api(generate, api_name="generate", concurrency_limit=4)
        demo.queue(max_size=40)
        _, self.url, _ = demo.launch(
            prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", share=False
        )
        self.demo = demo


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = App()
        yield started
        started.demo.close()


async def space(workshop: Any, url: str, **settings: Any) -> Any:
    gateway = await workshop.gateway(
        {"s": UpstreamConfig("hf_spaces", url, {"base": ""})}, **{"retries": 0, **settings}
    )
    await gateway.set(provider__hf_spaces=True)
    return gateway


async def test_c7_a_gradio_app_streams_deltas_that_add_up_to_the_whole_answer(
    workshop, app
) -> None:
    gateway = await space(workshop, app.url)
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    async with gateway.sdk() as client:
        whole = await client.chat.completions.create(
            model="base", messages=[*history, *ASK], temperature=0, max_tokens=7
        )
        # The application goes on only when a piece was heard: it arrives while it is written.
        pieces = []
        stream = await client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": "in turn"}], stream=True
        )
        async for chunk in stream:
            if text := chunk.choices[0].delta.content:
                pieces.append(text)
                app.heard.release()
    assert whole.choices[0].message.content == "word0 word1 word2 word3 word4 "
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) == 5
    assert gateway.runtime.dispatcher.providers["s"].dialect == "gradio"
    assert app.told[0] == {
        "prompt": "Hi there",
        "history": '[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]',
        "max_new_tokens": 7,
        "temperature": 0,
    }


async def test_c3_an_error_event_is_a_failure_and_its_html_goes_nowhere(workshop, app) -> None:
    gateway = await space(workshop, app.url)
    status, answer, _ = await gateway.post(
        "/v1/chat/completions", {"messages": [{"role": "user", "content": "fail"}]}
    )
    assert (status, answer["error"]["code"]) == (502, "space_error")
    assert "boom" not in str(answer)
    (record,) = await gateway.records()
    assert record["outcome"] == "failed"


async def test_c3_a_space_that_takes_back_its_words_is_not_believed(workshop, app) -> None:
    gateway = await space(workshop, app.url)
    status, raw, _ = await gateway.post(
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "rewrite"}], "stream": True},
    )
    assert status == 200
    assert b"upstream_rewritten" in raw
    assert b"[DONE]" not in raw


async def test_c7_leaving_stops_the_gradio_app(workshop, app) -> None:
    gateway = await space(workshop, app.url)
    app.stopped.clear()
    async with gateway.sdk() as client:
        stream = await client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": "endless"}], stream=True
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
    assert await asyncio.to_thread(app.stopped.wait, 10), "a whole answer would take longer"
    while not (found := await gateway.records()):
        await asyncio.sleep(0.01)
    (record,) = found
    assert record["outcome"] == "cancelled"


@pytest.mark.parametrize("prefix", ["", "/gradio_api"])
async def test_c2_older_gradio_versions_are_found_by_their_prefix(workshop, prefix) -> None:
    fake = await workshop.upstream()

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        parameter = {"parameter_name": "text", "type": {"type": "string"}}
        returns = [{"type": {"type": "string"}}]
        if request.path == "/config":
            return web.json_response(
                {"version": "4.44.1", "api_prefix": prefix} if prefix else {"version": "4.44.1"}
            )
        if request.path == f"{prefix}/info":
            return web.json_response(
                {"named_endpoints": {"/predict": {"parameters": [parameter], "returns": returns}}}
            )
        if request.path == f"{prefix}/call/predict":
            return web.json_response({"event_id": "e1"})
        if request.path == f"{prefix}/call/predict/e1":
            told = [b"event: heartbeat\ndata: null\n\n"]
            for text in ("Hel", "Hello", "Hello you"):
                told.append(b"event: generating\ndata: " + orjson.dumps([text]) + b"\n\n")
            told.append(b'event: complete\ndata: ["Hello you"]\n\n')
            return await workshop.sse(request, told)
        return web.json_response({"detail": "Not Found"}, status=404)

    fake.behaviour = behave
    gateway = await space(workshop, fake.url)
    status, answer, _ = await gateway.post("/v1/chat/completions", {"messages": ASK})
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "Hello you"


@pytest.mark.parametrize(
    ("status", "body", "code", "shown"),
    [
        (503, {"detail": "Queue is full. Please try again."}, "space_queue_full", 429),
        (422, {"detail": "validator"}, "upstream_rejected", 422),
    ],
)
async def test_c5_a_full_queue_asks_for_patience(workshop, status, body, code, shown) -> None:
    fake = await workshop.upstream()

    async def behave(request: web.Request, _: Any) -> web.StreamResponse:
        parameter = {"parameter_name": "text", "type": {"type": "string"}}
        if request.path == "/config":
            return web.json_response({"version": "6.31.0", "api_prefix": "/gradio_api"})
        if request.path == "/gradio_api/info":
            named = {"/generate": {"parameters": [parameter], "returns": [{}]}}
            return web.json_response({"named_endpoints": named})
        if request.path == "/gradio_api/call/generate":
            return web.json_response(body, status=status)
        return web.json_response({"detail": "Not Found"}, status=404)

    fake.behaviour = behave
    gateway = await space(workshop, fake.url)
    got, answer, _ = await gateway.post("/v1/chat/completions", {"messages": ASK})
    assert (got, answer["error"]["code"]) == (shown, code)
