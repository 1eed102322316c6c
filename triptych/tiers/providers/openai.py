"""Any OpenAI-compatible address: OpenAI, vLLM, TGI, llama.cpp, Ollama, the Hugging Face router.

Answers are passed on as they come, byte for byte where nothing is missing in them; prompts are
not changed here (`prompts` did that).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from types import NoneType
from typing import Any, ClassVar

from triptych.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamMalformed,
)
from triptych.tiers.providers.base import Completion, Frame, Probe, UpstreamCall
from triptych.tiers.providers.transport import MAX_EMBEDDINGS_BYTES, Transport
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.egress import parse_address
from triptych.wire import lenient_json
from triptych.wire.openai import error_message
from triptych.wire.sse import DONE_DATA, Event

_PIECE = (str, NoneType)
_PATHS = {"chat": "chat/completions", "text": "completions"}


class OpenAIProvider:
    """Speak OpenAI's API to one base URL."""

    embeds: ClassVar[bool] = True

    def __init__(self, upstream: Upstream, transport: Transport) -> None:
        self.upstream = upstream
        self.transport = transport
        base = parse_address(upstream.address)
        self.base = base
        self._urls = {kind: base / path for kind, path in _PATHS.items()}

    def _payload(self, call: UpstreamCall, *, stream: bool) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": call.model, **call.params}
        if call.kind == "chat":
            payload["messages"] = call.messages
        else:
            payload["prompt"] = _prompt(call)
        if stream:
            payload["stream"] = True
            if self.upstream.stream_usage:
                payload["stream_options"] = {"include_usage": True}
        return payload

    async def complete(self, call: UpstreamCall) -> Completion:
        """Return the whole answer, with its bytes when it needs no repair."""
        body, raw = await self.transport.json(
            "POST",
            self._urls[call.kind],
            payload=self._payload(call, stream=False),
            headers=_trace(call),
        )
        return self._checked(body, raw, call)

    def _checked(self, body: Any, raw: bytes | None, call: UpstreamCall) -> Completion:
        if not isinstance(body, dict) or body.get("error"):
            raise UpstreamMalformed(
                f"{self.upstream.name} answered with an error and status 200",
            )
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not all(map(_is_choice, choices)):
            raise UpstreamMalformed(f"{self.upstream.name} answered without a choice")
        if not body.get("id"):
            body["id"] = call.request_id
            raw = None
        return Completion(body, raw, str(body.get("system_fingerprint") or self.upstream.revision))

    async def stream(self, call: UpstreamCall) -> AsyncGenerator[Frame]:
        """Yield the upstream's own chunks."""
        started = False
        events = self.transport.events(
            self._urls[call.kind],
            payload=self._payload(call, stream=True),
            headers=_trace(call),
        )
        try:
            async for event in events:
                if event.data.strip() == DONE_DATA:
                    call.done = True
                    return
                frame = self._frame(event, call, started)
                if frame is not None:
                    started = True
                    yield frame
        finally:
            await events.aclose()
        if not started:
            raise self.transport.malformed(b"")

    def _frame(self, event: Event, call: UpstreamCall, started: bool) -> Frame | None:
        """Read one event; None when there is nothing in it for a client."""
        name, data = self.upstream.name, event.data
        failed = event.event == "error"
        try:
            chunk = lenient_json.loads(data)
        except ValueError as error:
            if not failed:
                raise _broken(f"{name} sent a torn chunk", started) from error
            chunk = {"error": data}
        if not isinstance(chunk, dict):
            raise _broken(f"{name} sent a chunk that is not one", started)
        if failed or chunk.get("error"):
            said = f"{name} reports: {error_message(chunk)[:200] or 'an error'}"
            raise UpstreamInterrupted(said) if started else UpstreamFailed(said)
        if not _is_chunk(chunk):
            raise _broken(f"{name} sent a chunk that is not one", started)
        if chunk.get("id") and chunk.get("choices") and "\n" not in data:
            return Frame(b"data: " + data.encode() + b"\n\n", chunk)
        if not chunk.get("choices") and not chunk.get("usage"):
            return None
        chunk["id"] = chunk.get("id") or call.request_id
        chunk["choices"] = chunk.get("choices") or []
        return Frame(b"data: " + lenient_json.dumps(chunk) + b"\n\n", chunk)

    async def embed(self, payload: dict[str, Any]) -> tuple[Any, bytes]:
        """Pass an embeddings request through."""
        return await self.transport.json(
            "POST", self.base / "embeddings", payload=payload, max_bytes=MAX_EMBEDDINGS_BYTES
        )

    async def probe(self) -> Probe:
        """Ask for one token from the first model."""
        start = time.monotonic()
        model = next(iter(self.upstream.models.values()), "")
        call = UpstreamCall(
            request_id="probe",
            kind="chat",
            messages=[{"role": "user", "content": "Say: Success"}],
            params={"max_tokens": 8, "temperature": 0},
            model=model,
            tier="base",
            deadline_s=start + 30,
        )
        try:
            done = await self.complete(call)
        except UpstreamError as error:
            return Probe(
                False,
                time.monotonic() - start,
                dialect="v1",
                error_code=error.code,
                message=error.message,
            )
        return Probe(True, time.monotonic() - start, dialect="v1", revision=done.revision)

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()


def _is_choice(choice: Any) -> bool:
    """Return whether a choice of a whole answer has a text or something in a text's place."""
    if not isinstance(choice, dict) or not _has_index(choice):
        return False
    message = choice.get("message")
    if not isinstance(message, dict):
        return message is None and isinstance(choice.get("text"), str)
    return _is_content(message.get("content"))


def _has_index(choice: dict[str, Any]) -> bool:
    """Read a choice's index: absent and null are the first, 1.0 is 1."""
    index = choice.get("index")
    if type(index) is float and index.is_integer():
        choice["index"] = int(index)
    elif index is None:
        choice["index"] = 0
    return type(choice["index"]) is int


def _is_content(content: Any) -> bool:
    """Return whether this is a text, or a list of parts as reasoning models write it."""
    if isinstance(content, _PIECE):
        return True
    return isinstance(content, list) and all(isinstance(part, dict | str) for part in content)


def _is_chunk(chunk: dict[str, Any]) -> bool:
    choices = chunk.get("choices")
    if not choices:
        return True
    return isinstance(choices, list) and all(map(_is_piece, choices))


def _is_piece(choice: Any) -> bool:
    if not isinstance(choice, dict) or not _has_index(choice):
        return False
    delta = choice.get("delta") or {}
    return (
        isinstance(delta, dict)
        and _is_content(delta.get("content"))
        and isinstance(choice.get("text"), _PIECE)
        and isinstance(choice.get("finish_reason"), _PIECE)
    )


def _prompt(call: UpstreamCall) -> Any:
    """Return the text to continue: a tier's facts stand before it, as a system message would.

    Token ids go as they are, and so does a prompt that is to come back with the answer.
    """
    *before, last = call.messages
    prompt = last["content"]
    if not before or call.params.get("echo"):
        return prompt
    facts = "\n\n".join(str(message["content"]) for message in before)
    if isinstance(prompt, str):
        return f"{facts}\n\n{prompt}"
    if all(isinstance(each, str) for each in prompt):
        return [f"{facts}\n\n{each}" for each in prompt]
    return prompt


def _trace(call: UpstreamCall) -> dict[str, str] | None:
    return {"traceparent": call.traceparent} if call.traceparent else None


def _broken(message: str, started: bool) -> UpstreamError:
    return UpstreamInterrupted(message) if started else UpstreamMalformed(message)
