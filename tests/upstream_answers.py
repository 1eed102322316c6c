"""What upstreams of OpenAI's shape answer in tests, and a client that shows the bytes."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
from aiohttp import web

ASK = [{"role": "user", "content": "hi"}]


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> bytes:
    chunk = {
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": index, "delta": fields, "finish_reason": finish}],
    }  # fmt: skip
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def says(workshop: Any, *pieces: bytes, pause_s: float = 0) -> Any:
    async def behave(request: web.Request, body: Any) -> Any:
        return await workshop.sse(request, list(pieces), pause_s)

    return behave


def answers(**message: Any) -> Any:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}

    async def behave(request: web.Request, body: Any) -> Any:
        return web.json_response({"id": "c", "model": "m", "created": 1, "choices": [choice]})

    return behave


async def ask_raw(gateway: Any, body: Any, path: str = "/v1/chat/completions") -> bytes:
    sent = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with (
        aiohttp.ClientSession() as session,
        session.post(gateway.url + path, data=data, headers=sent) as response,
    ):
        return await response.read()
