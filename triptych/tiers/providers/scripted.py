"""A provider that plays a script: deterministic answers, delays and faults by model name.

Users rehearse outages with it, and the fault matrix is driven by it. It is never substituted
for a model unless flags say so, and its answers are labelled with provider `scripted`.

Model names, combined with `+`::

    echo             repeat the last message (the default)
    say-hello-world  answer "hello world"
    filler-200       200 numbered words
    delay-50         50 ms before the first token      pace-5   5 ms between tokens
    status-503       fail with that status             flaky-2  fail every second call with 500
    wait-30          status 429 with Retry-After: 30   waking-5 a Space that needs 5 s more
    hang             never answer                      stall-3  stop answering after 3 tokens
    drop-3           break off after 3 tokens          torn     answer with no JSON
    refuse           connection refused                empty    an empty body
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

from triptych.errors import (
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamMalformed,
    UpstreamUnreachable,
    UpstreamWaking,
)
from triptych.tiers.providers.base import Completion, CompletionsOnly, Frame, Probe, UpstreamCall
from triptych.tiers.providers.transport import Transport
from triptych.tiers.rules.catalogue import Upstream
from triptych.wire import openai as shapes

REVISION = "scripted"
_FOREVER_S = 86_400.0


class ScriptedProvider(CompletionsOnly):
    """Play the script that the model's name spells."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._calls = count(1)
        self._transport = Transport(upstream)

    async def complete(self, call: UpstreamCall) -> Completion:
        """Return the scripted answer whole."""
        script = _parse(call.model)
        await self._before(script)
        words = _words(script, call)
        stop = script.get("drop", script.get("stall"))
        if stop is not None and stop < len(words):
            if "stall" in script:
                await asyncio.sleep(_FOREVER_S)
            raise UpstreamUnreachable(f"{self.upstream.name} broke off its answer")
        if pace_ms := script.get("pace"):
            await asyncio.sleep(pace_ms / 1000 * len(words))
        text = "".join(words)
        choice = shapes.chat_choice(text) if call.kind == "chat" else shapes.text_choice(text)
        body = shapes.completion(
            call.kind,
            call.model,
            [choice],
            _usage(call, words),
            id=call.request_id,
            system_fingerprint=REVISION,
        )
        return Completion(body, None, REVISION)

    async def stream(self, call: UpstreamCall) -> AsyncGenerator[Frame]:
        """Yield the scripted answer word by word."""
        script = _parse(call.model)
        await self._before(script)
        words = _words(script, call)
        writer = shapes.ChunkWriter(call.kind, call.model, id=call.request_id, fingerprint=REVISION)
        for position, word in enumerate(words):
            if position == script.get("drop"):
                raise UpstreamInterrupted(f"{self.upstream.name} broke off its stream")
            if position == script.get("stall"):
                await asyncio.sleep(_FOREVER_S)
            if position and (pace_ms := script.get("pace")):
                await asyncio.sleep(pace_ms / 1000)
            yield Frame(writer.text(word), _chunk(writer, text=word))
        yield Frame(
            writer.chunk(finish_reason="stop"), _chunk(writer, text=None, finish_reason="stop")
        )
        usage = _usage(call, words)
        yield Frame(
            writer.usage(usage),
            shapes.usage_chunk(call.kind, call.model, usage, id=writer.id, created=writer.created),
        )

    async def _before(self, script: dict[str, Any]) -> None:
        number = next(self._calls)
        if delay_ms := script.get("delay"):
            await asyncio.sleep(delay_ms / 1000)
        if "hang" in script:
            await asyncio.sleep(_FOREVER_S)
        if "refuse" in script:
            raise UpstreamUnreachable(f"{self.upstream.name} refuses the connection")
        if status := script.get("status"):
            raise self._transport.from_status(status, {}, b"")
        if (wait_s := script.get("wait")) is not None:
            raise self._transport.from_status(429, {"retry-after": str(wait_s)}, b"")
        if (wake_s := script.get("waking")) is not None:
            raise UpstreamWaking(f"{self.upstream.name} is waking up", retry_after_s=wake_s)
        if (every := script.get("flaky")) and number % every == 0:
            raise UpstreamFailed(f"{self.upstream.name} failed with status 500")
        if "torn" in script:
            raise self._transport.malformed(b'{"choices": [')
        if "empty" in script:
            raise UpstreamMalformed(f"{self.upstream.name} answered with nothing")

    async def probe(self) -> Probe:
        """A script is always there."""
        return Probe(True, 0.0, dialect="scripted", revision=REVISION)

    async def close(self) -> None:
        """Let go of nothing."""
        await self._transport.close()


def _parse(model: str) -> dict[str, Any]:
    script: dict[str, Any] = {}
    for part in model.split("+"):
        verb, _, argument = part.partition("-")
        script[verb] = int(argument) if argument.isdigit() else argument
    return script


def _words(script: dict[str, Any], call: UpstreamCall) -> list[str]:
    if said := script.get("say"):
        text = str(said).replace("-", " ")
    elif amount := script.get("filler"):
        text = " ".join(f"word{n}" for n in range(int(amount)))
    else:
        content = call.messages[-1].get("content") if call.messages else ""
        text = shapes.plain_text(content) or "nothing"
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def _usage(call: UpstreamCall, words: list[str]) -> dict[str, Any]:
    asked = sum(len(str(message.get("content") or "").split()) for message in call.messages)
    return shapes.usage(asked, len(words))


def _chunk(writer: shapes.ChunkWriter, **fields: Any) -> dict[str, Any]:
    return shapes.chunk(writer.kind, writer.model, id=writer.id, created=writer.created, **fields)
