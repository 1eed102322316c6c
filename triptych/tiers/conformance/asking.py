"""Requests to an address under test, and the four ways in which a check can end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from triptych.wire.sse import Parser

Result = Literal["works", "refused", "missing", "unclear", "wrong"]
"""`refused`: an error in OpenAI's shape says no; `missing`: no such route; `unclear`: the model
gave too little to tell; `wrong`: answered, and not as the API says."""


class Ended(Exception):
    """A check ends with this result; caught where checks are run."""

    def __init__(self, result: Result, note: str = "") -> None:
        super().__init__(note)
        self.result, self.note = result, note


def expect(held: object, note: str) -> None:
    """End the check as wrong where something does not hold."""
    if not held:
        raise Ended("wrong", note)


@dataclass
class Reply:
    """One whole answer."""

    status: int
    body: Any
    kind: str

    def json(self) -> Any:
        """Return the body of a success; end the check for anything else."""
        if self.status in (404, 405, 501):
            raise Ended("missing", f"{self.status}: {error_text(self.body)}")
        if 400 <= self.status < 500:
            expect(error_text(self.body), f"{self.status} without an error.message")
            raise Ended("refused", f"{self.status}: {error_text(self.body)}")
        expect(self.status == 200, f"status {self.status}: {error_text(self.body)}")
        expect(self.kind == "application/json", f"content type {self.kind}")
        expect(isinstance(self.body, dict), "the body is no JSON object")
        return self.body


@dataclass
class Stream:
    """One streamed answer, as it came."""

    chunks: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False
    first_s: float = 0.0
    total_s: float = 0.0

    def text(self) -> str:
        """Return the content of choice 0."""
        return "".join(
            choice["delta"].get("content") or ""
            for chunk in self.chunks
            for choice in chunk.get("choices", ())
            if choice.get("index") == 0
        )


class Address:
    """The server under test."""

    def __init__(self, base: str, key: str, timeout_s: float) -> None:
        base = base.rstrip("/")
        self.base = base if base.endswith("/v1") else f"{base}/v1"
        self.root = self.base.removesuffix("/v1")
        self.model = ""
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Address]:
        """Begin to ask; each request has a connection of its own, for some servers end theirs."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(
            headers=self._headers, timeout=self._timeout, connector=connector
        ) as self._http:
            yield self

    async def get(self, path: str) -> Reply:
        """Return the answer to a GET."""
        async with self._http.get(path) as got:
            return await _whole(got)

    async def post(self, path: str, body: Any, *, raw: bytes | None = None) -> Reply:
        """Return the answer to a POST below `/v1`."""
        data = raw if raw is not None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        async with self._http.post(self.base + path, data=data, headers=headers) as got:
            return await _whole(got)

    async def chat(self, messages: Any = None, **fields: Any) -> dict[str, Any]:
        """Return a chat completion; end the check where there is none."""
        body = {
            "model": self.model,
            "messages": messages or [{"role": "user", "content": "Count to three."}],
            "max_tokens": 24,
            "temperature": 0,
            **fields,
        }
        found: dict[str, Any] = (await self.post("/chat/completions", body)).json()
        expect(found.get("object") == "chat.completion", f"object is {found.get('object')!r}")
        expect(isinstance(found.get("choices"), list) and found["choices"], "no choices")
        return found

    async def stream(self, messages: Any = None, *, stop_after: int = 0, **fields: Any) -> Stream:
        """Return a streamed chat completion; `stop_after` chunks the connection is closed."""
        body = {
            "model": self.model,
            "messages": messages or [{"role": "user", "content": "Count to three."}],
            "max_tokens": 24,
            "temperature": 0,
            "stream": True,
            **fields,
        }
        found, parser, began = Stream(), Parser(), time.monotonic()
        async with self._http.post(self.base + "/chat/completions", json=body) as got:
            if got.status != 200:
                (await _whole(got)).json()
            expect(got.content_type == "text/event-stream", f"content type {got.content_type}")
            async for piece in got.content.iter_any():
                for event in parser.feed(piece):
                    if event.data.strip() == "[DONE]":
                        found.done = True
                        continue
                    chunk = _loads(event.data)
                    expect(isinstance(chunk, dict), "an event is no JSON object")
                    expect("error" not in chunk, f"error in the stream: {error_text(chunk)}")
                    found.first_s = found.first_s or time.monotonic() - began
                    found.chunks.append(chunk)
                    if stop_after and len(found.chunks) >= stop_after:
                        return found
        found.total_s = time.monotonic() - began
        return found


def _loads(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


async def _whole(got: aiohttp.ClientResponse) -> Reply:
    raw = await got.read()
    return Reply(got.status, _loads(raw), got.content_type)


def error_text(body: Any) -> str:
    """Return the message of an error in OpenAI's shape; empty where it has another."""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return str(message)[:160] if message else ""


FOREIGN = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""What a broken connection or a server that does not speak HTTP raises."""
