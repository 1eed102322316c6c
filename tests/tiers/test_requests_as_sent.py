"""How requests arrive: compressed, from a web page of another origin, for what is not here."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from upstream_answers import ASK

CHAT = "/v1/chat/completions"
PAGE = {"origin": "https://app.example"}


async def send(gateway: Any, data: bytes, path: str = CHAT, **headers: str) -> tuple[int, Any, Any]:
    sent = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(gateway.url + path, data=data, headers=sent) as response,
    ):
        raw = await response.read()
        return response.status, orjson.loads(raw), response.headers


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
async def test_a_compressed_body_is_read(place, encoding) -> None:
    upstream, gateway = await place()
    body = orjson.dumps({"model": "m", "messages": ASK})
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding](body)
    status, answer, _ = await send(gateway, packed, content_encoding=encoding)
    assert status == 200 and answer["choices"][0]["message"]["content"] == "fine"
    assert upstream.requests[-1][1]["messages"] == ASK


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/messages"])
async def test_a_bomb_is_refused_and_not_unpacked(place, path) -> None:
    upstream, gateway = await place(max_body_bytes=65536)
    bomb = gzip.compress(b" " * 2**26)
    assert len(bomb) < 2**17
    many = gzip.compress(b" " * 60000) * 40
    for data in (bomb, many):
        status, answer, _ = await send(gateway, data, path, content_encoding="gzip")
        assert status == 413 and "65536" in str(answer["error"]["message"])
    assert upstream.calls == 0


async def test_a_body_that_cannot_be_unpacked_is_refused_in_words(place) -> None:
    _, gateway = await place()
    packed = gzip.compress(orjson.dumps({"model": "m", "messages": ASK}))
    for data, encoding, expected in (
        (packed[:-9], "gzip", 400), (b"{}", "gzip", 400), (packed, "br", 415),
    ):  # fmt: skip
        status, answer, _ = await send(gateway, data, content_encoding=encoding)
        assert status == expected and answer["error"]["message"]


async def test_pages_of_other_origins_are_let_in_by_setting_only(place) -> None:
    asked = {**PAGE, "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip

    async def preflight(gateway: Any, path: str = CHAT) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.options(gateway.url + path, headers=asked) as response,
        ):
            return response.status, response.headers.get("access-control-allow-origin")

    _, closed = await place()
    assert (await preflight(closed))[1] is None
    _, opened = await place(cors_origins=("https://app.example",))
    assert await preflight(opened) == (200, "https://app.example")
    assert (await preflight(opened, "/admin/flags"))[1] is None
    body = orjson.dumps({"model": "m", "messages": ASK})
    status, _, headers = await send(opened, body, **PAGE)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example")
    status, _, headers = await send(opened, body, origin="https://other.example")
    assert "access-control-allow-origin" not in headers


async def test_g25_what_is_not_here_says_so_with_the_reason(place) -> None:
    _, gateway = await place()
    async with gateway.sdk() as client:
        for call in (
            client.batches.list, client.files.list, client.beta.assistants.list,
            lambda: client.images.generate(prompt="a cat"),
            lambda: client.moderations.create(input="a"), client.chat.completions.list,
        ):  # fmt: skip
            with pytest.raises(openai.APIStatusError) as refused:
                await call()
            assert refused.value.status_code == 501
            assert refused.value.code == "not_implemented" and len(str(refused.value)) > 20
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("none")
