"""Nothing a web page, a proxy or a hand-made request can send makes another caller of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from people import People

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.admin.table import TABLE

ASK = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
SCRIPT = {"s": UpstreamConfig("scripted", "", {"base": "echo"})}


async def raw(
    gateway: Any, *pieces: bytes, pause_s: float = 0.05, until: bytes = b"", times: int = 1,
    heard: bytes = b"",
) -> bytes:  # fmt: skip
    """Send bytes as they are and read until the gateway is done with the connection.

    What is sure to come is waited for: `until`, so many times, and `heard` between two pieces.
    """
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    for number, piece in enumerate(pieces):
        while number and heard not in answer:
            answer += await asyncio.wait_for(reader.read(65536), 60)
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_s)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while True:
            came = not until or answer.count(until) >= times
            if not (piece := await asyncio.wait_for(reader.read(65536), 0.5 if came else 60)):
                break
            answer += piece
    writer.close()
    return answer


def request(gateway: Any, *headers: str, body: bytes = b"", version: str = "1.1") -> bytes:
    lines = [
        f"POST /v1/chat/completions HTTP/{version}",
        "host: gateway",
        f"authorization: Bearer {gateway.key}",
        "content-type: application/json",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def gateway(workshop: Any) -> Any:
    gateway = await workshop.gateway(SCRIPT)
    await gateway.set(provider__scripted=True, real_ai_only=False)
    return gateway


# -- CSRF ----------------------------------------------------------------------------------------


async def test_i3_a_foreign_page_can_neither_write_nor_read_with_a_browsers_help(people) -> None:
    """Keys travel in a header that no form can set; there is no cookie, and no foreign origin."""
    key = people.keys["admin"]
    forged = {
        "origin": "https://evil.example",
        "referer": "https://evil.example/",
        "cookie": f"authorization=Bearer {key}; key={key}; session={key}",
    }
    wrong = []
    async with aiohttp.ClientSession() as session:
        for route in TABLE:
            if route.need == "anyone" and route.path != "/api/session":
                continue
            path = route.path.replace("{", "").replace("}", "").replace(":int", "")
            for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
                async with session.request(
                    route.method, people.gateway.url + path, data=orjson.dumps(ASK),
                    headers={**forged, "content-type": kind},
                ) as got:  # fmt: skip
                    opened = [h for h in got.headers if h.lower().startswith("access-control")]
                    if got.status < 400 or opened or "set-cookie" in got.headers:
                        wrong.append((route.method, path, kind, got.status, opened))
        async with session.options(
            people.gateway.url + "/v1/chat/completions",
            headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
        ) as got:
            assert not [h for h in got.headers if h.lower().startswith("access-control")]
    assert not wrong


async def test_i3_no_state_is_changed_by_a_get() -> None:
    names = ("create", "set", "delete", "revoke", "put", "enter", "remove", "change")
    guilty = [
        route.path
        for route in TABLE
        if route.method == "GET" and route.handler and route.handler.__name__.startswith(names)
    ]
    assert not guilty


async def test_where_callers_need_no_key_a_form_of_a_foreign_page_is_refused(workshop) -> None:
    gateway = await workshop.gateway(SCRIPT, anonymous=True)
    await gateway.set(provider__scripted=True, real_ai_only=False)
    async with aiohttp.ClientSession() as session:
        for kind, expected in (("text/plain", 415), ("application/json; charset=utf-8", 200)):
            async with session.post(
                gateway.url + "/v1/chat/completions", data=orjson.dumps(ASK),
                headers={"content-type": kind, "origin": "https://evil.example"},
            ) as got:  # fmt: skip
                assert got.status == expected


# -- headers -------------------------------------------------------------------------------------


async def test_headers_make_nobody_another_user_company_role_or_address(people: People) -> None:
    async def ask(who: str, **headers: str) -> tuple[int, Any]:
        return await people.call(who, "POST", "/v1/chat/completions", ASK, **headers)

    assert (await ask("user", x_triptych_user="gus"))[0] == 403
    assert (await ask("user", x_triptych_company="globex"))[0] == 403
    assert (await ask("user", x_triptych_tier="admin"))[0] in (404, 422)
    for name in ("x_triptych_role", "x_role", "x_admin", "x_original_url", "x_rewrite_url"):
        path = "/admin/flags"
        sent = {name: "/admin/flags" if "url" in name else "admin"}
        assert (await people.call("user", "GET", path, **sent))[0] == 403
    for name in ("x_http_method_override", "x_method_override"):
        assert (await people.call("user", "POST", "/admin/flags", {}, **{name: "GET"}))[0] in (
            401, 403, 405,
        )  # fmt: skip
    await people.gateway.records()
    assert {row["user_id"] for row in await people.gateway.records()} == {"ann"}


async def test_an_upstreams_words_cannot_write_headers_of_ours(workshop) -> None:
    upstream = await workshop.upstream()
    evil = "m\r\nset-cookie: a=b\rx-evil: 1\nx: y\0z\x7f"

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(workshop.completion("hi", evil, system_fingerprint=evil))

    upstream.behaviour = answer
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("openai", f"{upstream.url}/v1", {"base": "m"})}
    )
    body = orjson.dumps(ASK)
    answer_bytes = await raw(
        gateway,
        request(gateway, f"content-length: {len(body)}", "connection: close", body=body),
        until=b"\r\n\r\n",
    )
    head = answer_bytes.split(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200")
    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert b"set-cookie" not in names
    assert all(32 <= byte < 127 for byte in head.replace(b"\r\n", b""))


@pytest.mark.parametrize(
    "headers",
    [
        ("content-length: {n}", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "transfer-encoding: identity", "content-length: {n}"),
        ("content-length: {n}", "content-length: 3"),
        ("content-length: -1",),
        ("content-length: {n}x",),
        ("transfer-encoding: xchunked",),
        ("x-triptych-feature: a\x00b", "content-length: {n}"),
        ("x-triptych-feature: a\rb", "content-length: {n}"),
        (" x: folded", "content-length: {n}"),
    ],
    ids=str,
)
async def test_an_ambiguous_request_is_refused_and_smuggles_nothing(gateway, headers) -> None:
    body = orjson.dumps(ASK)
    inner = request(gateway, f"content-length: {len(body)}", body=body)
    sent = request(gateway, *(h.format(n=len(body)) for h in headers), body=body + inner)
    answer = await raw(gateway, sent)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:80]
    assert answer.count(b"HTTP/1.1 200") == 0
    assert await gateway.records() == []


async def test_huge_and_odd_headers_hurt_nobody(gateway) -> None:
    body = orjson.dumps(ASK)
    length = f"content-length: {len(body)}"
    for odd in (
        "x-triptych-feature: " + "f" * 5000,
        "x-triptych-conversation: \xe4\xf6\xfc\xff",
        "traceparent: ../../etc/passwd",
        "x-triptych-company: " + "../" * 50,
        "cookie: " + "a=b; " * 2000,
    ):
        answer = await raw(gateway, request(gateway, odd, length, body=body), until=b"\r\n\r\n")
        assert answer[9:10] in (b"2", b"4"), (odd[:40], answer[:60])
    await raw(gateway, request(gateway, "x: " + "y" * 300_000, length, body=body))
    status, _, _ = await gateway.post("/v1/chat/completions", ASK)
    assert status == 200
    for row in await gateway.records():
        assert len(row["feature"] or "") <= 64


async def test_http_as_old_and_as_lazy_as_it_comes(gateway) -> None:
    """HTTP/1.0, pipelined requests, a body that waits for `100 Continue`, a body in drops."""
    body = orjson.dumps(ASK)
    length = f"content-length: {len(body)}"
    ok = b"HTTP/1.1 200"
    answer = await raw(gateway, request(gateway, length, body=body, version="1.0"), until=ok)
    assert answer.split(b" ")[1] == b"200"
    two = request(gateway, length, body=body) * 2
    assert (await raw(gateway, two, until=ok, times=2)).count(ok) == 2
    waits = request(gateway, length, "expect: 100-continue")
    answer = await raw(gateway, waits, body, heard=b"100 Continue", until=ok)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    drops = [bytes([byte]) for byte in body]
    answer = await raw(gateway, request(gateway, length), *drops, pause_s=0.002, until=ok)
    assert answer.startswith(ok)
    streamed = orjson.dumps({**ASK, "stream": True})
    answer = await raw(
        gateway,
        request(gateway, f"content-length: {len(streamed)}", body=streamed),
        until=b"0\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"0\r\n\r\n")


async def test_a_head_alone_is_an_answer_too(gateway) -> None:
    for path, status in (("/health", b"200"), ("/ready", b"200"), ("/nowhere", b"404")):
        asked = f"HEAD {path} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode()
        answer = await raw(gateway, asked, asked, until=b"\r\n\r\n", times=2)
        assert answer.count(b"HTTP/1.1 " + status) == 2
        assert answer.endswith(b"\r\n\r\n"), "no body follows"
