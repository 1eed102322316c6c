"""Upstreams that speak an API of their own: asked in it, and their answers told in OpenAI's shape.

A translation says how a call is written and what an answer and an event mean; HTTP, keys, errors
and the end of a stream are the same for all. Left out: parts that the other API has no word for,
which are refused as unfit, so that the next upstream is asked.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Protocol

from yarl import URL

from triptych.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamMalformed,
    UpstreamUnfit,
)
from triptych.tiers.providers.base import Completion, CompletionsOnly, Frame, Probe, UpstreamCall
from triptych.tiers.providers.transport import Transport
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.egress import parse_address
from triptych.wire import lenient_json
from triptych.wire.openai import error_message

Shape = dict[str, Any]


class Stream(Protocol):
    """Read one stream of another API."""

    ended: bool
    """Whether the API said that the answer is complete."""

    def take(self, event: Shape) -> Iterator[Shape]:
        """Yield the parts of chunks that an event stands for: `choices`, `usage`, `model`."""
        ...


class Translation(Protocol):
    """Between OpenAI's chat shape and that of another API."""

    headers: Mapping[str, str]

    def url(self, base: URL, model: str, *, stream: bool) -> URL:
        """Return where a model is asked."""
        ...

    def request(self, call: UpstreamCall, *, stream: bool) -> Shape:
        """Write a call.

        Raises: ValueError with the field that cannot be said.
        """
        ...

    def answer(self, body: Shape) -> Shape:
        """Read a whole answer: `choices`, `usage`, `model`."""
        ...

    def stream(self) -> Stream:
        """Return what reads one stream."""
        ...


class TranslatedProvider(CompletionsOnly):
    """Speak another API to one base URL."""

    def __init__(self, upstream: Upstream, transport: Transport, translation: Translation) -> None:
        self.upstream = upstream
        self.transport = transport
        self._base = parse_address(upstream.address)
        self._as = translation

    def _written(self, call: UpstreamCall, *, stream: bool) -> tuple[URL, Shape]:
        name = self.upstream.name
        if call.kind != "chat":
            raise UpstreamUnfit(f"{name} answers chats only", code="unsupported")
        try:
            payload = self._as.request(call, stream=stream)
        except ValueError as error:
            raise UpstreamUnfit(
                f"{name} cannot be asked this: {error}", code="unsupported"
            ) from error
        return self._as.url(self._base, call.model, stream=stream), payload

    async def complete(self, call: UpstreamCall) -> Completion:
        """Return the whole answer."""
        url, payload = self._written(call, stream=False)
        body, _ = await self.transport.json("POST", url, payload=payload, headers=self._as.headers)
        name = self.upstream.name
        if not isinstance(body, dict) or body.get("error"):
            raise UpstreamMalformed(f"{name} answered with an error and status 200")
        try:
            found = self._as.answer(body)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UpstreamMalformed(f"{name} answered without a choice") from error
        shape = {**_head(call, "chat.completion"), **found}
        return Completion(shape, None, self.upstream.revision)

    async def stream(self, call: UpstreamCall) -> AsyncGenerator[Frame]:
        """Yield chunks as the events come."""
        url, payload = self._written(call, stream=True)
        reading, started = self._as.stream(), False
        head = _head(call, "chat.completion.chunk")
        events = self.transport.events(url, payload=payload, headers=self._as.headers)
        try:
            async for event in events:
                for part in self._read(reading, event.data, started=started):
                    chunk = {**head, "choices": [], **part}
                    started = True
                    yield Frame(b"data: " + lenient_json.dumps(chunk) + b"\n\n", chunk)
                if reading.ended:
                    call.done = True
        finally:
            await events.aclose()
        if not started:
            raise self.transport.malformed(b"")

    def _read(self, reading: Stream, data: str, *, started: bool) -> Iterator[Shape]:
        name = self.upstream.name
        try:
            event = lenient_json.loads(data)
            if not isinstance(event, dict):
                raise ValueError("not an object")
            if event.get("error"):
                said = f"{name} reports: {error_message(event)[:200] or 'an error'}"
                raise UpstreamInterrupted(said) if started else UpstreamFailed(said)
            yield from list(reading.take(event))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            said = f"{name} sent an event that is not one"
            raise (UpstreamInterrupted if started else UpstreamMalformed)(said) from error

    async def probe(self) -> Probe:
        """Ask for a few tokens from the first model."""
        start = time.monotonic()
        model = next(iter(self.upstream.models.values()), "")
        asked = [{"role": "user", "content": "Say: Success"}]
        call = UpstreamCall("probe", "chat", asked, {"max_tokens": 64}, model, "base", start + 30)
        try:
            await self.complete(call)
        except UpstreamError as error:
            took_s = time.monotonic() - start
            return Probe(False, took_s, error_code=error.code, message=error.message)
        return Probe(True, time.monotonic() - start, revision=self.upstream.revision)

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()


def _head(call: UpstreamCall, kind: str) -> Shape:
    return {"id": call.request_id, "object": kind, "created": int(time.time()), "model": call.model}


# -- what the translations share -----------------------------------------------------------------


def system_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Join what the system and the developer say: the other APIs have one place for it."""
    texts = [
        text_of(message.get("content"))
        for message in messages
        if message.get("role") in ("system", "developer")
    ]
    return "\n\n".join(text for text in texts if text)


def text_of(content: Any) -> str:
    """Join the texts of a content."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(p if isinstance(p, str) else str(p.get("text") or "") for p in parts)


def data_url(address: str) -> tuple[str, str] | None:
    """Split a data address into its kind and its base64 text; None for any other address."""
    head, comma, data = address.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head[5:-7] or "application/octet-stream", data


def arguments_of(call: Mapping[str, Any]) -> Shape:
    """Return a call's arguments as an object."""
    given = (call.get("function") or {}).get("arguments") or "{}"
    found = lenient_json.loads(given) if isinstance(given, str) else given
    return found if isinstance(found, dict) else {"value": found}


def limit_of(params: Mapping[str, Any]) -> int | None:
    """Return the most tokens that an answer may have."""
    found = params.get("max_completion_tokens") or params.get("max_tokens")
    return found if isinstance(found, int) else None


def stops_of(params: Mapping[str, Any]) -> list[str]:
    """Return the stop strings."""
    given = params.get("stop")
    return [given] if isinstance(given, str) else list(given or ())


def schema_of(params: Mapping[str, Any]) -> Shape | None:
    """Return the JSON schema that an answer is to follow."""
    wanted = params.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        return dict((wanted or {}).get("json_schema", {}).get("schema") or {"type": "object"})
    return {"type": "object"} if kind == "json_object" else None


def functions_of(params: Mapping[str, Any]) -> list[Shape]:
    """Return the functions that a model may call."""
    return [t["function"] for t in params.get("tools") or () if t.get("type") == "function"]


def add_to_turn(turns: list[Shape], role: str, key: str, blocks: list[Shape]) -> None:
    """Add blocks under a key to the last turn where it has this role, else begin a turn."""
    if turns and turns[-1]["role"] == role:
        turns[-1][key] += blocks
    elif blocks:
        turns.append({"role": role, key: blocks})
