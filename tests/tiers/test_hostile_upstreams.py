"""Upstreams that lie, flood, break off or are full: none harms more than its own requests."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from typing import Any

import orjson
import pytest
from aiohttp import web
from upstream_answers import ASK, DONE, delta

from triptych.tiers.providers import transport
from triptych.wire import sse


def chat(stream: bool = False) -> dict[str, Any]:
    return {"model": "m", "messages": ASK, "stream": stream}


@pytest.mark.parametrize(
    "value",
    ["inf", "nan", "1e308", "999999999999", "1764000000", "-5", "Fri, 31 Dec 9999 23:59:59 GMT"],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_found_b5_a_time_to_wait_is_finite_and_capped(place, value, status) -> None:
    async def busy(request: web.Request, body: Any) -> web.Response:
        return web.Response(status=status, text="{}", headers={"retry-after": value})

    upstream, gateway = await place(retries=0, breaker_failures=1)
    upstream.behaviour = busy
    answered, body, headers = await gateway.post("/v1/chat/completions", chat())
    assert answered == status, body
    assert 1 <= int(headers.get("retry-after", "1")) <= 600
    breaker = gateway.runtime.dispatcher.breakers["up"]
    assert breaker.retry_after_s() <= 600
    answered, _, headers = await gateway.post("/v1/chat/completions", chat())
    assert int(headers.get("retry-after", "1")) <= 600


async def test_found_b6_streams_that_break_off_open_the_breaker(place, workshop) -> None:
    async def breaks(request: web.Request, body: Any) -> Any:
        response = await workshop.sse(request, [delta(content="one ")])
        request.transport.close()
        return response

    upstream, gateway = await place(breaker_failures=3, breaker_open_s=1000)
    upstream.behaviour = breaks
    breaker = gateway.runtime.dispatcher.breakers["up"]
    for _ in range(3):
        assert breaker.state == "closed"
        await gateway.post("/v1/chat/completions", chat(stream=True))
    assert breaker.state == "open"


async def test_found_b6_a_probe_that_breaks_off_opens_it_again_and_a_whole_one_closes(
    place, workshop
) -> None:
    async def breaks(request: web.Request, body: Any) -> Any:
        response = await workshop.sse(request, [delta(content="one ")])
        request.transport.close()
        return response

    upstream, gateway = await place(breaker_failures=3, breaker_open_s=1000)
    breaker = gateway.runtime.dispatcher.breakers["up"]
    upstream.behaviour = breaks
    for _ in range(3):
        await gateway.post("/v1/chat/completions", chat(stream=True))
    breaker._open_until_s = 0.0
    assert breaker.state == "half_open"
    await gateway.post("/v1/chat/completions", chat(stream=True))
    assert breaker.state == "open"
    breaker._open_until_s = 0.0
    upstream.behaviour = None
    await gateway.post("/v1/chat/completions", chat(stream=True))
    assert breaker.state == "closed"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("status", [200, 500])
async def test_found_b7_an_answer_is_read_within_a_bound_also_unpacked(
    place, monkeypatch, packed, status
) -> None:
    most = 200_000
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", most)
    whole = b'{"x": "' + b"a" * 60_000_000 + b'"}'
    body = gzip.compress(whole) if packed else whole
    del whole

    async def floods(request: web.Request, _: Any) -> web.StreamResponse:
        headers = {"content-encoding": "gzip"} if packed else {}
        headers["content-type"] = "application/json"
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        for start in range(0, len(body), 2**16):
            await response.write(body[start : start + 2**16])
        return response

    upstream, gateway = await place(retries=0)
    upstream.behaviour = floods
    tracemalloc.start()
    answered, said, _ = await gateway.post("/v1/chat/completions", chat())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answered == 502, said
    assert peak < 20_000_000, f"{peak} bytes were held"
    if status == 200:
        assert said["error"]["code"] == "upstream_too_large"


async def test_found_b7_a_stream_is_unpacked_within_a_bound(place, monkeypatch) -> None:
    body = gzip.compress(delta(content="a" * 40_000_000) + DONE)

    async def floods(request: web.Request, _: Any) -> web.Response:
        headers = {"content-encoding": "gzip", "content-type": "text/event-stream"}
        return web.Response(body=body, headers=headers)

    upstream, gateway = await place(retries=0)
    upstream.behaviour = floods
    tracemalloc.start()
    await gateway.post("/v1/chat/completions", chat(stream=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 35_000_000, f"{peak} bytes were held"


async def test_found_b7_an_ordinary_packed_answer_is_read(place, workshop) -> None:
    raw = gzip.compress(orjson.dumps(workshop.completion("packed")))

    async def packs(request: web.Request, _: Any) -> web.Response:
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        return web.Response(body=raw, headers=headers)

    upstream, gateway = await place()
    upstream.behaviour = packs
    answered, said, _ = await gateway.post("/v1/chat/completions", chat())
    assert answered == 200
    assert said["choices"][0]["message"]["content"] == "packed"


async def test_found_b4_waiting_for_a_place_is_not_the_upstreams_silence(place) -> None:
    free = asyncio.Event()

    async def slow(request: web.Request, body: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(delta(content="one "))
        await free.wait()
        await response.write(delta(content="two", finish="stop") + DONE)
        return response

    upstream, gateway = await place(
        max_connections=2, first_token_timeout_s=0.5, queue_timeout_s=1.5, breaker_failures=1,
        retries=0,
    )  # fmt: skip
    upstream.behaviour = slow
    first = [asyncio.create_task(gateway.post("/v1/chat/completions", chat(True))) for _ in "ab"]
    while upstream.open < 2:
        await asyncio.sleep(0.01)
    # Nothing gets free: the gateway is full, which is its own condition and no upstream's fault.
    status, said, headers = await gateway.post("/v1/chat/completions", chat(True))
    assert (status, said["error"]["code"]) == (503, "gateway_full")
    assert int(headers["retry-after"]) >= 1
    assert upstream.open == 2
    breaker = gateway.runtime.dispatcher.breakers["up"]
    assert breaker.state == "closed"
    # One that waits longer than the upstream may be silent is still answered.
    waiting = asyncio.create_task(gateway.post("/v1/chat/completions", chat(True)))
    await asyncio.sleep(0.8)
    free.set()
    assert (await waiting)[0] == 200
    assert [(await task)[0] for task in first] == [200, 200]
    assert breaker.state == "closed"
    # Every place is free again.
    assert [(await gateway.post("/v1/chat/completions", chat(True)))[0] for _ in range(5)] == [
        200
    ] * 5


async def test_found_b4_a_client_that_goes_away_leaves_its_place(place) -> None:
    async def slow(request: web.Request, body: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(delta(content="one "))
        await asyncio.sleep(60)
        return response

    upstream, gateway = await place(max_connections=1, queue_timeout_s=20, retries=0)
    for behaviour in (slow, None) * 3:
        upstream.behaviour = behaviour
        asked = asyncio.create_task(gateway.post("/v1/chat/completions", chat(True)))
        if behaviour is None:
            assert (await asked)[0] == 200
            continue
        while not upstream.open:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        asked.cancel()


class Counted(bytes):
    """A piece that counts how many bytes are copied to put it behind others."""

    copied = 0

    def __radd__(self, before: bytes) -> bytes:
        Counted.copied += len(before)
        return bytes(before) + bytes(self)


def test_found_c10_a_line_in_small_pieces_is_parsed_in_linear_time() -> None:
    parser = sse.Parser()
    line = b"data: " + b"x" * 400_000 + b"\r\n\r\n"
    events: list[sse.Event] = []
    for start in range(0, len(line), 64):
        events += parser.feed(Counted(line[start : start + 64]))
    assert [len(event.data) for event in events] == [400_000]
    assert Counted.copied <= 2 * len(line)
