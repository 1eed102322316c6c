"""One retry budget, breakers with a single probe, and cancellation that reaches upstream."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from aiohttp import web

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.pipeline.breaker import Breaker

ASK = [{"role": "user", "content": "?"}]


def local(upstream, **models: str) -> UpstreamConfig:
    return UpstreamConfig("local", f"{upstream.url}/v1", models or {"base": "m"})


async def always(status: int, **headers: str):
    async def answer(request, body):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": {"message": "no"}}, status=status, headers=sent)

    return answer


async def test_c4_attempts_of_retries_and_fallbacks_share_one_budget(workshop) -> None:
    upstreams = [await workshop.upstream() for _ in range(4)]
    for upstream in upstreams:
        upstream.behaviour = await always(500)
    gateway = await workshop.gateway(
        {f"u{n}": local(u) for n, u in enumerate(upstreams)}, retries=1, max_attempts=3
    )
    status, _, headers = await gateway.post("/v1/chat/completions", {"messages": ASK})
    assert status == 502
    assert headers["x-should-retry"] == "false"
    assert [u.calls for u in upstreams] == [2, 1, 0, 0]


async def test_c4_the_sdk_adds_no_attempts_to_ours(workshop) -> None:
    upstream = await workshop.upstream()
    upstream.behaviour = await always(503)
    gateway = await workshop.gateway({"u": local(upstream)}, retries=1)
    client = gateway.sdk().with_options(max_retries=5)
    with pytest.raises(Exception, match="503"):
        await client.chat.completions.create(model="base", messages=ASK)
    await client.close()
    assert upstream.calls == 2


async def test_c4_a_short_retry_after_is_waited_for(workshop) -> None:
    upstream = await workshop.upstream()
    asked: list[float] = []

    async def once(request, body):
        asked.append(time.monotonic())
        if len(asked) == 1:
            return await (await always(429, retry_after_ms="300"))(request, body)
        return await upstream.answer(request, body)

    upstream.behaviour = once
    gateway = await workshop.gateway({"u": local(upstream)})
    status, _, _ = await gateway.post("/v1/chat/completions", {"messages": ASK})
    assert status == 200
    assert asked[1] - asked[0] >= 0.3


async def test_c4_a_long_retry_after_is_passed_on_and_holds_the_breaker(workshop) -> None:
    upstream = await workshop.upstream()
    upstream.behaviour = await always(429, retry_after="77")
    gateway = await workshop.gateway({"u": local(upstream)})
    status, _, headers = await gateway.post("/v1/chat/completions", {"messages": ASK})
    assert (status, headers["retry-after"], upstream.calls) == (429, "77", 1)
    status, answer, headers = await gateway.post("/v1/chat/completions", {"messages": ASK})
    assert (status, answer["error"]["code"]) == (503, "no_provider_available")
    assert 70 <= int(headers["retry-after"]) <= 77
    assert upstream.calls == 1


def test_c5_a_breaker_opens_probes_once_and_closes() -> None:
    now = [0.0]
    breaker = Breaker(failures=3, open_s=10, clock=lambda: now[0])
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert (breaker.state, breaker.allows()) == ("open", False)
    now[0] = 10.0
    assert breaker.state == "half_open"
    assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]
    breaker.failed()
    assert (breaker.state, breaker.allows()) == ("open", False)
    now[0] = 20.0
    assert breaker.allows()
    breaker.released()
    assert breaker.allows(), "a probe that was given back may be taken again"
    breaker.succeeded()
    assert (breaker.state, breaker.allows()) == ("closed", True)


async def test_c5_an_open_breaker_lets_one_probe_through_to_200_callers(workshop) -> None:
    upstream = await workshop.upstream()
    upstream.behaviour = await always(500)
    gateway = await workshop.gateway(
        {"u": local(upstream)}, retries=0, breaker_failures=3, breaker_open_s=10
    )
    now = [0.0]
    gateway.runtime.dispatcher.breakers["u"].clock = lambda: now[0]
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"authorization": f"Bearer {gateway.key}"}
    ) as session:

        async def ask() -> int:
            url = gateway.url + "/v1/chat/completions"
            async with session.post(url, json={"messages": ASK}) as response:
                return response.status

        for _ in range(3):
            assert await ask() == 502
        assert set(await asyncio.gather(*(ask() for _ in range(200)))) == {503}
        assert upstream.calls == 3
        now[0] = 10.0
        answers = await asyncio.gather(*(ask() for _ in range(200)))
        assert sorted(set(answers)) == [502, 503]
        assert upstream.calls == 4
        upstream.behaviour = None
        now[0] = 20.0
        assert 200 in await asyncio.gather(*(ask() for _ in range(50)))
        assert set(await asyncio.gather(*(ask() for _ in range(50)))) == {200}


async def test_c5_a_callers_mistakes_never_open_the_breaker(workshop) -> None:
    upstream = await workshop.upstream()
    upstream.behaviour = await always(400)
    gateway = await workshop.gateway({"u": local(upstream)}, breaker_failures=2)
    for _ in range(5):
        status, _, _ = await gateway.post("/v1/chat/completions", {"messages": ASK})
        assert status == 400
    assert gateway.runtime.dispatcher.breakers["u"].state == "closed"


@pytest.mark.parametrize("stream", [False, True])
async def test_c7_a_client_that_leaves_closes_the_upstream(workshop, stream) -> None:
    """How soon is measured by `benchmarks/gateway.py`, part `leave`."""
    upstream = await workshop.upstream()
    left = asyncio.Event()

    async def slow(request, body):
        try:
            if not stream:
                await asyncio.sleep(3600)
            pieces = [b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'] * 999
            return await workshop.sse(request, pieces, pause_s=3600)
        finally:
            left.set()

    upstream.behaviour = slow
    gateway = await workshop.gateway({"u": local(upstream)})
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        work = asyncio.ensure_future(
            session.post(
                gateway.url + "/v1/chat/completions", json={"messages": ASK, "stream": stream}
            )
        )
        if stream:
            response = await work
            await response.content.readline()
            response.close()
        else:
            while not upstream.open:
                await asyncio.sleep(0.01)
            work.cancel()
        await asyncio.wait_for(left.wait(), 60)
    while not (found := await gateway.records()):
        await asyncio.sleep(0.01)
    (record,) = found
    assert (record["outcome"], record["status"]) == ("cancelled", 499)
    (attempt,) = await gateway.attempts(record["request_id"])
    assert attempt["outcome"] == "cancelled"
    if stream:
        assert record["tokens_source"] == "estimated"
        assert record["output_tokens"] >= 1
    assert gateway.runtime.recorder.spool.in_flight == 0


async def test_c7_cancelled_streams_leave_no_task_and_no_socket(workshop) -> None:
    upstream = await workshop.upstream()

    async def endless(request, body):
        pieces = [b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'] * 999
        return await workshop.sse(request, pieces, pause_s=0.05)

    upstream.behaviour = endless
    gateway = await workshop.gateway({"u": local(upstream)})

    async def leave() -> None:
        headers = {"authorization": f"Bearer {gateway.key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(
                gateway.url + "/v1/chat/completions", json={"messages": ASK, "stream": True}
            ) as response,
        ):
            await response.content.readline()

    await asyncio.gather(*(leave() for _ in range(20)))
    await asyncio.sleep(0.3)
    before = len(asyncio.all_tasks())
    for _ in range(4):
        await asyncio.gather(*(leave() for _ in range(25)))
    async with asyncio.timeout(60):
        while (
            len(asyncio.all_tasks()) > before + 2
            or upstream.open
            or gateway.runtime.recorder.spool.in_flight
        ):
            await asyncio.sleep(0.02)
    records = await gateway.records()
    assert len(records) == 120
    assert {record["outcome"] for record in records} == {"cancelled"}


@pytest.mark.parametrize("ending", ["reset", "error", "silence", "early end"])
async def test_c7_after_the_first_token_nobody_is_asked_again(workshop, ending) -> None:
    first, other = await workshop.upstream(), await workshop.upstream("never")

    async def break_off(request, body):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(
            b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        )
        if ending == "reset":
            await asyncio.sleep(0.05)
            request.transport.abort()
        elif ending == "error":
            await response.write(b'data: {"error":{"message":"out of memory"}}\n\n')
        elif ending == "silence":
            await asyncio.sleep(30)
        return response

    first.behaviour = break_off
    gateway = await workshop.gateway(
        {"a": local(first), "b": UpstreamConfig("openai", f"{other.url}/v1", {"base": "m"})},
        retries=3,
        idle_timeout_s=0.3,
    )
    status, answer, _ = await gateway.post(
        "/v1/chat/completions", {"messages": ASK, "stream": True}
    )
    assert status == 200
    assert (first.calls, other.calls) == (1, 0)
    assert answer.count(b'"content":"a"') == 1
    assert b'"error"' in answer
    assert b"[DONE]" not in answer
    (record,) = await gateway.records()
    assert (record["outcome"], record["attempts"]) == ("failed", 1)
