"""Answers from evidence: the tiers that have a source of knowledge are answered from what it finds.

Evidence is found first. A refusal is an answer at once, and no provider is called. Otherwise the
passages go into the prompt as fenced data, the model's whole answer is checked against them, and
what does not hold is replaced by the documents' own sentences. The sources are handed in where the
gateway is composed: nothing here knows how passages are found.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

import orjson

from triptych.config.gateway import GatewayConfig
from triptych.errors import NoProviderAvailable, UpstreamError
from triptych.tiers.pipeline.dispatch import Opened
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.providers.base import Completion, Frame
from triptych.tiers.rules.query import Query
from triptych.wire import openai as shapes
from triptych.wire import sse
from triptych.wire.evidence import Checked, Evidence, KnowledgeSource

Sources = Mapping[str, KnowledgeSource]

# What a client may ask of a model, but not of an answer that is checked as one text.
_LEFT_OUT = (
    "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "n", "logprobs",
    "top_logprobs", "response_format",
)  # fmt: skip
_ANSWER_TOKENS = 256
#: Providers and proxies between give up on a silent connection after some 15 seconds and more.
_KEEP_ALIVE_S = 5.0
_OPENED_AFTER_S = 1.0
_COMMENT = b": the answer is being checked\n\n"
_PIECE = re.compile(r"(?:\s*\S+){1,8}\s*|\s+")


async def find(sources: Sources, exchange: Exchange, tier: str) -> Evidence | None:
    """Return what the tier's source knows about the question; None where none serves it.

    The question then carries the evidence, and asks for one plain text.
    """
    source = sources.get(tier)
    query, trace = exchange.query, exchange.trace
    if source is None or query.operation:
        return None
    started_s = time.monotonic()
    evidence = await source.find(query.input, query.messages[:-1], query.company_id, query.user_id)
    if evidence is None:
        return None
    trace.context_applied = (f"{tier}_evidence",)
    trace.tier_served = tier
    trace.evidence = {
        "tier": tier,
        "refused": evidence.refused,
        "confidence": round(evidence.confidence, 4),
        "release": evidence.release,
        "find_ms": round((time.monotonic() - started_s) * 1000, 2),
    }
    params = {"temperature": 0, **query.params}
    if "max_completion_tokens" not in params:
        params.setdefault("max_tokens", _ANSWER_TOKENS)
    kept = {name: value for name, value in params.items() if name not in _LEFT_OUT}
    exchange.query = dataclasses.replace(query, params=kept)
    return evidence


async def answer(
    source: KnowledgeSource,
    evidence: Evidence,
    exchange: Exchange,
    ask: Callable[[], Awaitable[Completion]],
) -> Completion:
    """Return the checked answer: the model's words where they hold, else the extracted ones."""
    trace = exchange.trace
    completion: Completion | None = None
    if evidence.refused:
        checked = Checked(evidence.answer, (), False)
    else:
        try:
            completion = await ask()
        except (UpstreamError, NoProviderAvailable) as error:
            trace.fallback_reason = trace.fallback_reason or error.code
            checked = Checked(evidence.answer, evidence.citations, False, (error.code,))
        else:
            checked = source.check(shapes.answer_text(completion.body), evidence)
    shown = _answered(exchange, evidence, checked, completion)
    exchange.answer.take_completion(shown)
    return shown


def _answered(
    exchange: Exchange, evidence: Evidence, checked: Checked, completion: Completion | None
) -> Completion:
    """Write the answer in OpenAI's shape, and what it rests on into the trace."""
    query, trace, counted = exchange.query, exchange.trace, exchange.answer
    shown = {
        **(trace.evidence or {}),
        "words": "model" if checked.is_model_text else "documents",
        "problems": len(checked.problems),
    }
    if evidence.refused:
        shown["nearest"] = [_place(passage) for passage in evidence.passages[:3]]
    trace.evidence = shown
    trace.citations = tuple(citation.as_json() for citation in checked.citations)
    model, revision, usage = "documents", evidence.release, shapes.usage(0, 0)
    if completion is None:
        trace.tier_served = shown["tier"]
    else:
        model, revision = counted.model, counted.revision
        usage = completion.body["usage"]
        counted.tokens_source = counted.usage.source
    make = shapes.chat_choice if query.kind == "chat" else shapes.text_choice
    finish = counted.finish_reason if checked.is_model_text else ""
    choice = make(checked.text, finish or "stop")
    choice["citations"] = list(trace.citations)
    body = shapes.completion(
        query.kind, model, [choice], usage, id=query.request_id,
        system_fingerprint=revision or None,
    )  # fmt: skip
    return Completion({**body, "triptych": shown}, None, revision)


def _place(passage: Any) -> dict[str, Any]:
    return {
        "document": passage.document,
        "title": passage.title,
        "headings": list(passage.headings),
        "url": passage.url,
    }


async def opened(
    exchange: Exchange, work: Coroutine[Any, Any, Completion], config: GatewayConfig
) -> Opened:
    """Return the checked answer as a stream that is open before the answer is there.

    Comments keep the client and the proxies between from giving up; a quick answer opens with
    everything in its headers.

    Raises: TierError of work that fails at once.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task], timeout=_OPENED_AFTER_S)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.done():
        task.result()
    pause_s = min(_KEEP_ALIVE_S, config.idle_timeout_s / 3)
    frames = _frames(exchange.query, task, pause_s)
    return Opened([], frames, None, gathering=task)


async def _frames(
    query: Query, task: asyncio.Task[Completion], pause_s: float
) -> AsyncGenerator[Frame]:
    while not task.done():
        await asyncio.wait([task], timeout=pause_s)
        if not task.done():
            yield Frame(_COMMENT, {})
    for frame in chunks(query, task.result()):
        yield frame


def chunks(query: Query, completion: Completion) -> list[Frame]:
    """Return a whole answer as chunks; the last choice carries the citations."""
    body = completion.body
    writer = shapes.ChunkWriter(
        query.kind, str(body["model"]), id=query.request_id, fingerprint=completion.revision
    )
    common: dict[str, Any] = {
        "id": writer.id, "created": writer.created,
        "system_fingerprint": completion.revision or None,
    }  # fmt: skip
    frames = [
        Frame(writer.text(piece), shapes.chunk(writer.kind, writer.model, text=piece, **common))
        for piece in _PIECE.findall(shapes.answer_text(body))
    ]
    last = shapes.chunk(
        writer.kind, writer.model, finish_reason=shapes.finish_reason(body) or "stop", **common
    )
    last["choices"][0]["citations"] = body["choices"][0]["citations"]
    last["triptych"] = body["triptych"]
    usage = shapes.usage_chunk(
        writer.kind, writer.model, body["usage"], id=writer.id, created=writer.created
    )
    return [
        *frames,
        Frame(sse.encode(orjson.dumps(last)), last),
        Frame(writer.usage(body["usage"]), usage),
    ]
