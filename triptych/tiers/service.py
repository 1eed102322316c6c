"""The facade: flags, selector, limits, prompt, provider, fallback, record - in this order.

`query` and its kin are the originals' interface for Python programs; `whole` and `stream` are
what the HTTP face calls. Both run the same pipeline. Left out: parsing (`bodies`), HTTP (`api`).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from triptych.errors import TierError
from triptych.tiers import prompts
from triptych.tiers.accounts import Principal
from triptych.tiers.bodies import original_tier
from triptych.tiers.dispatch import Opened
from triptych.tiers.exchange import Exchange
from triptych.tiers.providers.base import Call, Completion, Frame
from triptych.tiers.query import Answer, Query, QueryContext, Trace, Usage
from triptych.tiers.runtime import Runtime
from triptych.tiers.selector import Route, Selection
from triptych.wire.openai import answer_text, delta_text

_CHARACTERS_PER_TOKEN = 4


class LLMService:
    """Answer queries through three tiers and any provider, and record what happened."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        runtime.dispatcher.make_call = self._call

    # -- the originals' interface ----------------------------------------------------------------

    async def query(self, text: str, context: QueryContext, principal: Principal) -> Answer:
        """Answer one question.

        Raises: TierError.
        """
        exchange = self.begin(self._from_context(text, context), principal)
        completion = await self.whole(exchange)
        trace, query = exchange.trace, exchange.query
        return Answer(
            content=answer_text(completion.body),
            request_id=query.request_id,
            tier_asked=query.tier_asked,
            tier_served=trace.tier_served,
            provider=trace.provider,
            model=trace.model,
            revision=trace.revision,
            reason=trace.reason,
            fallback_reason=trace.fallback_reason,
            usage=trace.usage,
            latency_s=exchange.latency_s,
            cached=trace.cached,
            finish_reason=trace.finish_reason,
            truncated_messages=trace.truncated_messages,
            context_applied=trace.context_applied,
        )

    async def stream_text(
        self, text: str, context: QueryContext, principal: Principal
    ) -> AsyncGenerator[str]:
        """Answer one question piece by piece.

        Raises: TierError.
        """
        query = self._from_context(text, context)
        query.stream = True
        exchange = self.begin(query, principal)
        opened = await self.open_stream(exchange)
        async for frame in self.frames(exchange, opened):
            if piece := delta_text(frame.chunk):
                yield piece

    def _from_context(self, text: str, context: QueryContext) -> Query:
        messages = prompts.conversation(text, context.conversation_history, system_allowed=True)
        params = {} if context.temperature is None else {"temperature": context.temperature}
        tier = original_tier(context.use_company_model, context.use_abstraction)
        return Query(
            request_id=new_request_id(),
            kind="chat",
            messages=messages,
            params=params,
            model_asked=tier,
            tier_asked=tier,
            user_id=context.user_id,
            company_id=context.company_id,
            feature=context.feature,
            context_label=context.context,
            explicit="context",
        )

    # -- the pipeline ----------------------------------------------------------------------------

    def begin(self, query: Query, principal: Principal) -> Exchange:
        """Accept a query: from here on there is a record of it, whatever happens."""
        identify(query, principal)
        return Exchange(query, principal, self.runtime.recorder)

    async def whole(self, exchange: Exchange) -> Completion:
        """Answer a query whole; its record is safe when this returns.

        Raises: TierError, with its record safe too.
        """
        with _recorded(exchange):
            selection = self._decide(exchange)
            completion = await self.runtime.dispatcher.complete(
                exchange.query, selection, exchange.trace
            )
            _note_completion(completion, exchange.trace, exchange.query)
            exchange.finish("ok", 200)
            return completion

    async def open_stream(self, exchange: Exchange) -> Opened:
        """Open a stream up to its first token; fallbacks are over when this returns.

        Raises: TierError, with its record safe.
        """
        with _recorded(exchange):
            selection = self._decide(exchange)
            trace = exchange.trace
            opened = await self.runtime.dispatcher.open(exchange.query, selection, trace)
            first = opened.frames[-1].chunk
            trace.model = str(first.get("model") or trace.model)
            trace.revision = str(first.get("system_fingerprint") or trace.revision)
            return opened

    async def frames(self, exchange: Exchange, opened: Opened) -> AsyncGenerator[Frame]:
        """Yield a stream's frames; its record is safe when the last one has been taken.

        Raises: TierError, with its record safe.
        """
        trace, query = exchange.trace, exchange.query
        characters = 0
        try:
            for frame in opened.frames:
                characters += _note_chunk(frame.chunk, trace)
                if frame.chunk.get("choices") or query.include_usage:
                    yield frame
            rest = self.runtime.dispatcher.frames(opened, trace)
            try:
                async for frame in rest:
                    characters += _note_chunk(frame.chunk, trace)
                    if frame.chunk.get("choices") or query.include_usage:
                        yield frame
            finally:
                await rest.aclose()
        except TierError as error:
            _estimate(trace, query, characters)
            exchange.finish("failed", error.status, error_code=error.code)
            raise
        except BaseException:
            _estimate(trace, query, characters)
            exchange.finish("cancelled", 499, error_code="cancelled")
            raise
        _estimate(trace, query, characters)
        exchange.finish("ok", 200)

    def _decide(self, exchange: Exchange) -> Selection:
        """Decide everything that is decided before an upstream is asked."""
        runtime, query, trace = self.runtime, exchange.query, exchange.trace
        prompts.check_sizes(query.messages, runtime.config.max_input_bytes)
        flags = runtime.flags.resolve(query.user_id, query.company_id, query.feature)
        trace.flags, trace.flags_version = flags.variants, flags.version
        selection = runtime.selector.select(query, exchange.principal, flags)
        trace.reason, trace.selector = selection.reason, selection.selector
        _apply_context(query, exchange.principal, selection)
        return selection

    def _call(self, query: Query, route: Route, trace: Trace, deadline_s: float) -> Call:
        """Build the prompt for one upstream."""
        messages, left_out = prompts.assemble(
            query,
            system_prompt=self.runtime.prompts.get(route.tier, ""),
            context_tokens=route.upstream.context_tokens,
        )
        trace.truncated_messages = left_out
        return Call(
            request_id=query.request_id,
            kind=query.kind,
            messages=messages,
            params=query.params,
            model=route.model,
            tier=route.tier,
            deadline_s=deadline_s,
            company_context=query.company_context,
            abstraction_context=query.abstraction_context,
            traceparent=query.traceparent,
        )


@contextmanager
def _recorded(exchange: Exchange) -> Iterator[None]:
    """Finish the exchange of work that fails, whatever the failure is."""
    try:
        yield
    except TierError as error:
        refused = not exchange.trace.attempts and error.status < 500
        exchange.finish("refused" if refused else "failed", error.status, error_code=error.code)
        raise
    except Exception:
        exchange.finish("failed", 500, error_code="internal")
        raise
    except BaseException:
        exchange.finish("cancelled", 499, error_code="cancelled")
        raise


def new_request_id() -> str:
    """Make the id that names a request everywhere."""
    return "req_" + secrets.token_hex(12)


def identify(query: Query, principal: Principal) -> None:
    """Say who asks: a user's key is that user; a service's key may speak for one."""
    if principal.kind == "user" or query.user_id is None:
        query.user_id = principal.user_id
    if query.company_id is None and query.tier_asked in ("company", "auto"):
        query.company_id = principal.default_company()


def _apply_context(query: Query, principal: Principal, selection: Selection) -> None:
    """Show the company's tier what it may know of the company."""
    if selection.tier == "company" and query.company_id is not None:
        company = principal.companies.get(query.company_id)
        if company is not None and company.facts:
            query.company_context = company.facts


def _note_completion(completion: Completion, trace: Trace, query: Query) -> None:
    body = completion.body
    trace.revision = completion.revision or trace.revision
    trace.model = str(body.get("model") or trace.model)
    choices = body["choices"]
    trace.finish_reason = str(choices[0].get("finish_reason") or "")
    usage = body.get("usage")
    if isinstance(usage, dict) and isinstance(usage.get("prompt_tokens"), int):
        trace.usage = Usage(
            usage["prompt_tokens"], int(usage.get("completion_tokens") or 0), "provider"
        )
        return
    characters = sum(
        len(str((choice.get("message") or choice).get("content") or choice.get("text") or ""))
        for choice in choices
    )
    _estimate(trace, query, characters)
    body["usage"] = {
        "prompt_tokens": trace.usage.input_tokens,
        "completion_tokens": trace.usage.output_tokens,
        "total_tokens": trace.usage.input_tokens + trace.usage.output_tokens,
    }
    completion.raw = None


def _note_chunk(chunk: dict[str, Any], trace: Trace) -> int:
    """Take usage, model and finish from a chunk; return how many characters it adds."""
    usage = chunk.get("usage")
    if usage is not None and isinstance(usage.get("prompt_tokens"), int):
        trace.usage = Usage(
            usage["prompt_tokens"], int(usage.get("completion_tokens") or 0), "provider"
        )
    choices = chunk.get("choices")
    if not choices:
        return 0
    choice = choices[0]
    if finish := choice.get("finish_reason"):
        trace.finish_reason = finish
        trace.model = str(chunk.get("model") or trace.model)
        trace.revision = str(chunk.get("system_fingerprint") or trace.revision)
    delta = choice.get("delta")
    text = delta.get("content") if delta is not None else choice.get("text")
    return len(text) if text else 0


def _estimate(trace: Trace, query: Query, characters: int) -> None:
    """Count a quarter of the characters where no upstream counted, and mark it."""
    if trace.usage.source == "provider":
        return
    trace.usage = Usage(
        sum(prompts.estimate_tokens(message) for message in query.messages),
        -(-characters // _CHARACTERS_PER_TOKEN),
        "estimated",
    )


def body_bytes(completion: Completion) -> bytes:
    """Return the answer's bytes, the upstream's own where nothing was added."""
    return completion.raw if completion.raw is not None else orjson.dumps(completion.body)
