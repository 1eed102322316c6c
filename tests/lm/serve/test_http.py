"""The plain HTTP around the models: health, limits, tokens, queues, clients that go away."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2 as httpx
import pytest

Server = Any

SHORT = {"prompt": "Hello", "max_tokens": 4, "temperature": 0}
LONG = {"prompt": "Go on", "max_tokens": 480, "ignore_eos": True, "stream": True}


async def ask(server: Server, method: str, path: str, **fields: Any) -> tuple[int, Any, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, server.url + path, **fields) as answer,
    ):
        body = await answer.read()
        kind = answer.content_type
        return (
            answer.status,
            json.loads(body) if kind == "application/json" else body,
            answer.headers,
        )


async def ready(server: Server) -> None:
    deadline = time.monotonic() + 60
    while (await ask(server, "GET", "/health"))[0] != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def connect(server: Server, body: dict[str, Any]) -> socket.socket:
    """Open a raw connection that sends one completion request and reads nothing."""
    place = urlsplit(server.url)
    raw = json.dumps(body).encode()
    connection = socket.create_connection((place.hostname, place.port))
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(raw) + raw
    )
    return connection


async def idle(server: Server) -> None:
    deadline = time.monotonic() + 60
    engine = server.service.engine_of("tiny")
    while any(server.service._active.values()) or engine._running or engine._waiting:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_health_tells_the_model_and_its_revision(server: Server, qwen3_folder: Path) -> None:
    await ready(server)
    status, body, _ = await ask(server, "GET", "/health")
    manifest = json.loads((qwen3_folder / "manifest.json").read_text())
    assert status == 200
    assert body["status"] == "ok" and body["model"] == "tiny"
    assert manifest["files"]["model.safetensors"]["sha256"].startswith(body["revision"])


async def test_health_says_loading_until_the_model_is_there(qwen3_folder: Path, start: Any) -> None:
    with start(qwen3_folder) as fresh:
        seen = set()
        deadline = time.monotonic() + 60
        while "ok" not in seen:
            assert time.monotonic() < deadline
            status, body, _ = await ask(fresh, "GET", "/health")
            assert (status == 200) == (body["status"] == "ok")
            seen.add(body["status"])


async def test_info_shows_the_engine_and_the_defaults(server: Server) -> None:
    await ready(server)
    _, body, _ = await ask(server, "GET", "/info")
    (model,) = body["models"]
    assert model["engine"] == "llama_cpp" and model["dtype"] == "f32"
    assert model["context_length"] == 512
    assert body["defaults"]["temperature"] == 0.8


async def test_metrics_count_tokens_and_answers(server: Server) -> None:
    await ask(server, "POST", "/v1/completions", json=SHORT)
    _, body, _ = await ask(server, "GET", "/metrics")
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if line[0] != "#")
    assert float(lines['triptych_output_tokens_total{model="tiny"}']) >= 4
    assert float(lines['triptych_answers_total{model="tiny",reason="length"}']) >= 1
    assert float(lines['triptych_ttft_seconds_count{model="tiny"}']) >= 1


async def test_the_schema_describes_the_routes_that_answer(server: Server) -> None:
    _, schema, _ = await ask(server, "GET", "/openapi.json")
    assert {"/v1/chat/completions", "/v1/completions", "/api/generate", "/health"} <= set(
        schema["paths"]
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "JSON"),
        ("[]", "body"),
        ('{"max_tokens": 4}', "prompt is required"),
        ('{"prompt": 7}', "prompt"),
        ('{"prompt": "x", "max_tokens": "many"}', "max_tokens"),
        ('{"prompt": "x", "stop": {"a": 1}}', "stop"),
        ('{"prompt": "x", "temperature": null, "top_p": 3}', "top_p must be"),
    ],
)
async def test_a_body_that_is_wrong_is_422_in_words(server: Server, body: str, words: str) -> None:
    headers = {"content-type": "application/json"}
    status, answer, _ = await ask(server, "POST", "/v1/completions", data=body, headers=headers)
    assert status == 422
    assert words in answer["error"]["message"]


async def test_an_empty_prompt_starts_a_document(server: Server) -> None:
    status, answer, _ = await ask(server, "POST", "/v1/completions", json={**SHORT, "prompt": ""})
    assert status == 200 and answer["usage"]["prompt_tokens"] == 1


async def test_a_prompt_of_100_kb_is_refused_in_words(server: Server) -> None:
    body = {**SHORT, "prompt": "many words " * 10_000}
    status, answer, _ = await ask(server, "POST", "/v1/completions", json=body)
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded"


async def test_a_body_over_the_limit_is_413_declared_or_not(qwen3_folder: Path, start: Any) -> None:
    with start(qwen3_folder, settings=("serve.max_body_bytes=4096",)) as small:
        body = json.dumps({**SHORT, "prompt": "x" * 5000}).encode()
        headers = {"content-type": "application/json"}
        status, answer, _ = await ask(small, "POST", "/v1/completions", data=body, headers=headers)
        assert status == 413 and "4096" in answer["error"]["message"]

        async def pieces() -> Any:
            for start_at in range(0, len(body), 1000):
                yield body[start_at : start_at + 1000]

        status, answer, _ = await ask(
            small, "POST", "/v1/completions", data=pieces(), headers=headers
        )
        assert status == 413


async def test_unknown_paths_and_methods_answer_in_the_same_shape(server: Server) -> None:
    status, body, _ = await ask(server, "GET", "/nothing")
    assert status == 404 and body["error"]["message"]
    status, body, _ = await ask(server, "GET", "/v1/completions")
    assert status == 405 and body["error"]["message"]


async def test_a_token_is_asked_of_everything_but_health(qwen3_folder: Path, start: Any) -> None:
    with start(qwen3_folder, token="s3cret-token") as closed:
        assert (await ask(closed, "GET", "/health"))[0] in (200, 503)
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret-token"}):
            for method, path in (("GET", "/v1/models"), ("GET", "/info"), ("GET", "/metrics")):
                status, body, _ = await ask(closed, method, path, headers=headers)
                assert status == 401 and "s3cret" not in json.dumps(body)
            status, *_ = await ask(closed, "POST", "/v1/completions", json=SHORT, headers=headers)
            assert status == 401
        right = {"authorization": "Bearer s3cret-token"}
        assert (await ask(closed, "GET", "/v1/models", headers=right))[0] == 200


async def test_a_full_queue_answers_429_with_a_time_to_come_back(
    qwen3_folder: Path, start: Any
) -> None:
    with start(qwen3_folder, settings=("serve.max_waiting=4",)) as small:
        await ready(small)
        body = {**SHORT, "max_tokens": 100, "ignore_eos": True}
        answers = await asyncio.gather(
            *(ask(small, "POST", "/v1/completions", json=body) for _ in range(60))
        )
        refused = [headers for status, _, headers in answers if status == 429]
        assert refused and all(int(headers["retry-after"]) >= 1 for headers in refused)
        assert sum(status == 200 for status, *_ in answers) + len(refused) == 60
        assert sum(status == 200 for status, *_ in answers) >= 8
        await idle(small)
        assert (await ask(small, "POST", "/v1/completions", json=SHORT))[0] == 200


async def test_500_requests_at_once_are_answered_or_refused_and_the_server_lives(
    server: Server,
) -> None:
    await ready(server)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one() -> int:
            async with session.post(server.url + "/v1/completions", json=SHORT) as answer:
                await answer.read()
                return answer.status

        statuses = await asyncio.gather(*(one() for _ in range(500)))
    assert set(statuses) <= {200, 429} and statuses.count(200) >= 132
    await idle(server)


async def leave_streams(server: Server, count: int) -> None:
    """Begin streams and break each connection after the first bytes, or before any."""
    for start_at in range(0, count, 50):
        connections = [connect(server, LONG) for _ in range(min(50, count - start_at))]
        for index, connection in enumerate(connections):
            if index % 2:
                await asyncio.to_thread(connection.recv, 1)
            connection.close()
        await idle(server)


async def test_clients_that_disconnect_leave_nothing_behind(server: Server) -> None:
    await ready(server)
    await leave_streams(server, 200)
    engine = server.service.engine_of("tiny")
    assert engine._free_kv_tokens == engine._kv_tokens
    assert (await ask(server, "POST", "/v1/completions", json=SHORT))[0] == 200


@pytest.mark.prove
async def test_10_000_disconnects_leak_no_memory(server: Server) -> None:
    import psutil

    await ready(server)
    await leave_streams(server, 1000)
    before = psutil.Process().memory_info().rss
    await leave_streams(server, 10_000)
    assert psutil.Process().memory_info().rss - before < 30 * 2**20


async def test_a_client_that_leaves_a_whole_answer_cancels_it(server: Server) -> None:
    await ready(server)
    connection = connect(server, {**LONG, "stream": False, "n": 4})
    while not server.service._active["tiny"]:
        await asyncio.sleep(0.005)
    connection.close()
    began = time.monotonic()
    await idle(server)
    assert time.monotonic() - began < 20


async def test_readers_that_never_read_do_not_stop_the_others(server: Server) -> None:
    await ready(server)
    stuck = [connect(server, LONG) for _ in range(20)]
    try:
        status, answer, _ = await ask(server, "POST", "/v1/completions", json=SHORT)
        assert status == 200 and answer["usage"]["completion_tokens"] <= 4
        await idle(server)
    finally:
        for connection in stuck:
            connection.close()


async def test_two_models_and_an_unknown_name(
    qwen3_folder: Path, write_model: Any, tmp_path: Path, start: Any
) -> None:
    other = write_model(tmp_path / "other", "llama", seed=3)
    with start(qwen3_folder, other) as both:
        _, listed, _ = await ask(both, "GET", "/v1/models")
        assert [card["id"] for card in listed["data"]] == ["tiny", "other"]
        texts = set()
        for name in ("tiny", "other"):
            body = {**SHORT, "model": name, "max_tokens": 12}
            status, answer, headers = await ask(both, "POST", "/v1/completions", json=body)
            assert status == 200 and answer["model"] == headers["x-triptych-model"] == name
            texts.add(answer["choices"][0]["text"])
        assert len(texts) == 2
        status, answer, _ = await ask(
            both, "POST", "/v1/completions", json={**SHORT, "model": "othr"}
        )
        assert status == 404 and "other" in answer["error"]["message"]


async def test_a_model_over_the_memory_budget_is_refused_and_the_server_lives(
    qwen3_folder: Path, start: Any
) -> None:
    with start(qwen3_folder, settings=("generate.cache_memory_bytes=1000",)) as poor:
        status, answer, _ = await ask(poor, "POST", "/v1/completions", json=SHORT)
        assert status == 507 and "MiB" in answer["error"]["message"]
        assert (await ask(poor, "GET", "/v1/models"))[0] == 200


async def test_a_damaged_model_is_told_and_the_server_lives(
    qwen3_folder: Path, tmp_path: Path, start: Any
) -> None:
    import shutil

    torn = tmp_path / "torn"
    shutil.copytree(qwen3_folder, torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with start(torn) as broken:
        status, answer, _ = await ask(broken, "POST", "/v1/completions", json=SHORT)
        assert status == 500 and "damaged" in answer["error"]["message"]
        assert (await ask(broken, "GET", "/v1/models"))[0] == 200
        status, health, _ = await ask(broken, "GET", "/health")
        assert status == 503 and health["status"] == "failed" and "damaged" in health["error"]


async def test_a_face_before_another_server_passes_answers_and_its_absence_on(
    server: Server, qwen3_folder: Path, start: Any
) -> None:
    """The engine `openai` behind our model server, as vLLM stands behind it on a GPU."""
    await ready(server)
    there = ("generate.engine=openai", f"generate.base_url={server.url}/v1")
    with start(qwen3_folder, settings=there) as server:
        await ready(server)
        direct = await ask(server, "POST", "/v1/completions", json=SHORT)
        passed = await ask(server, "POST", "/v1/completions", json=SHORT)
        assert passed[0] == direct[0] == 200
        assert passed[1]["choices"] == direct[1]["choices"]
        status, answer, _ = await ask(
            server, "POST", "/v1/completions", json={**SHORT, "prompt": "word " * 3000}
        )
        assert status == 400 and answer["error"]["code"] == "context_length_exceeded"
    gone = ("generate.engine=openai", "generate.base_url=http://127.0.0.1:9/v1")
    with start(qwen3_folder, settings=gone) as server:
        status, answer, headers = await ask(server, "POST", "/v1/completions", json=SHORT)
        assert status == 503 and "retry-after" in headers
        assert "no answer from 127.0.0.1" in answer["error"]["message"]


def test_a_compressed_body_is_read_and_a_bomb_refused(server: Any) -> None:
    body = gzip.compress(json.dumps({"prompt": "The", "max_tokens": 2}).encode())
    sent = {"content-encoding": "gzip", "content-type": "application/json"}
    url = f"{server.url}/v1/completions"
    assert httpx.post(url, content=body, headers=sent, timeout=60).status_code == 200
    bomb = httpx.post(url, content=gzip.compress(b" " * 2**26), headers=sent, timeout=60)
    assert bomb.status_code == 413 and "unpacks" in bomb.json()["error"]["message"]


def test_what_is_not_here_says_so_and_other_origins_are_let_in_by_setting(
    server: Any, start: Any, qwen3_folder: Path
) -> None:
    absent = httpx.get(f"{server.url}/v1/batches", timeout=60)
    assert (absent.status_code, absent.json()["error"]["code"]) == (501, "not_implemented")
    origin = {"origin": "https://app.example"}
    models = httpx.get(f"{server.url}/v1/models", headers=origin, timeout=60)
    assert "access-control-allow-origin" not in models.headers
    with start(qwen3_folder, settings=('serve.cors_origins=["https://app.example"]',)) as open_:
        models = httpx.get(f"{open_.url}/v1/models", headers=origin, timeout=60)
        assert models.headers["access-control-allow-origin"] == "https://app.example"
