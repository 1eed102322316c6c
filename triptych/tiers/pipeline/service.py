"""The facade: flags, selector, prompt, cache, provider, fallback, filter, record - in this order.

`query` and its kin are the originals' interface for Python programs; `whole` and `frames` are
what the HTTP face calls. Both run the same pipeline. Left out: parsing (`bodies`), HTTP (`api`).
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from triptych.errors import BudgetSpent, Forbidden, OutputBlocked, TierError
from triptych.tiers.pipeline import structure
from triptych.tiers.pipeline.cache import Hit
from triptych.tiers.pipeline.dispatch import Opened
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.pipeline.structure import Structured, Variations
from triptych.tiers.pipeline.tokens import estimate, expected, note_chunk, note_completion
from triptych.tiers.providers.base import Completion, Frame, UpstreamCall
from triptych.tiers.rules import prompts
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.budgets import Need, subjects
from triptych.tiers.rules.consent import granted, refuses_service
from triptych.tiers.rules.filters import StreamCheck, check
from triptych.tiers.rules.flags import Resolved
from triptych.tiers.rules.query import Answer, Outcome, Query, QueryContext, Trace, original_tier
from triptych.tiers.rules.selector import Route, Selection
from triptych.wire import openai as shapes
from triptych.wire.openai import answer_text, delta_text


class LLMService:
    """Answer queries through three tiers and any provider, and record what happened."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        runtime.dispatcher.make_call = self._call

    # -- the originals' interface ----------------------------------------------------------------

    async def query(
        self,
        text: str,
        context: QueryContext,
        principal: Principal,
        params: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer one question; `params` are OpenAI's names beyond the context's temperature.

        Raises: TierError.
        """
        query = self._from_context(text, context)
        query.params.update(params or {})
        exchange = self.begin(query, principal)
        completion = await self.whole(exchange)
        trace = exchange.trace
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
        params: dict[str, Any] = {}
        if context.temperature is not None:
            params["temperature"] = context.temperature
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

    async def generate_structure(
        self, prompt: str, schema: dict[str, Any], context: QueryContext, principal: Principal
    ) -> Structured:
        """Ask for a JSON value that matches a JSON Schema; see `structure`.

        Raises: TierError.
        """
        return await structure.generate_structure(self._asking(principal), prompt, schema, context)

    async def generate_variations(
        self,
        prompt: str,
        amount: int,
        context: QueryContext,
        principal: Principal,
        *,
        seed: int = 0,
    ) -> Variations:
        """Ask for several different answers; see `structure`.

        Raises: TierError.
        """
        return await structure.generate_variations(
            self._asking(principal), prompt, amount, context, seed=seed
        )

    def _asking(self, principal: Principal) -> structure.Ask:
        async def ask(text: str, context: QueryContext, params: dict[str, Any]) -> Answer:
            return await self.query(text, context, principal, params)

        return ask

    # -- the pipeline ----------------------------------------------------------------------------

    def begin(self, query: Query, principal: Principal) -> Exchange:
        """Accept a query: from here on there is a record of it, whatever happens."""
        identify(query, principal)
        return Exchange(query, principal, self.runtime.observers)

    async def whole(self, exchange: Exchange) -> Completion:
        """Answer a query whole; its record is safe when this returns.

        Raises: TierError, with its record safe too.
        """
        with recorded(exchange):
            selection = self._decide(exchange)
            key = self._cache_key(exchange, selection)
            if key is None:
                completion = await self._ask(exchange, selection)
            else:
                completion = await self._ask_once(exchange, selection, key)
            exchange.finish("ok", 200, answer=_kept_text(exchange, completion))
            return completion

    async def _ask(self, exchange: Exchange, selection: Selection) -> Completion:
        trace, query = exchange.trace, exchange.query
        selection = await self.hold(exchange, selection)
        completion = await self.runtime.dispatcher.complete(query, selection, trace)
        note_completion(completion, trace, query)
        if self.runtime.output_filter is not None:
            check(answer_text(completion.body), self.runtime.output_filter)
        return completion

    async def _ask_once(self, exchange: Exchange, selection: Selection, key: bytes) -> Completion:
        """Answer from the cache, or once for all who ask the same at this moment."""
        cache, done = self.runtime.cache, []

        async def work() -> None:
            completion = await self._ask(exchange, selection)
            done.append(completion)
            trace = exchange.trace
            source = trace.usage.source
            cache.put(key, completion.body, completion.revision, _route(trace), source)

        hit = cache.get(key) or await cache.fly(key, work)
        if hit is None:
            return done[0]
        completion = Completion({**hit.body, "id": exchange.query.request_id}, None, hit.revision)
        _serve_hit(exchange.trace, hit)
        note_completion(completion, exchange.trace, exchange.query)
        exchange.trace.usage.source = hit.tokens_source
        return completion

    async def open_stream(self, exchange: Exchange) -> Opened:
        """Open a stream up to its first token; fallbacks are over when this returns.

        Raises: TierError, with its record safe.
        """
        with recorded(exchange):
            selection = self._decide(exchange)
            trace = exchange.trace
            key = self._cache_key(exchange, selection)
            if key is not None and (hit := self.runtime.cache.get(key)) is not None:
                _serve_hit(trace, hit)
                return Opened.finished(exchange.query, hit.body, hit.revision)
            selection = await self.hold(exchange, selection)
            opened = await self.runtime.dispatcher.open(exchange.query, selection, trace)
            opened.cache_key = key
            first = opened.frames[-1].chunk
            trace.model = str(first.get("model") or trace.model)
            trace.revision = str(first.get("system_fingerprint") or trace.revision)
            return opened

    async def frames(self, exchange: Exchange, opened: Opened) -> AsyncGenerator[Frame]:
        """Yield a stream's frames; its record is safe when the last one has been taken.

        Raises: TierError, with its record safe.
        """
        trace, query = exchange.trace, exchange.query
        output_filter = self.runtime.output_filter
        checked = StreamCheck(output_filter) if output_filter else None
        keeping: list[str] | None = [] if opened.cache_key or exchange.consent else None
        characters = 0
        frames = self.runtime.dispatcher.frames(opened, trace)
        try:
            async for frame in frames:
                characters += note_chunk(frame.chunk, trace)
                if checked is not None:
                    checked.take(delta_text(frame.chunk))
                if keeping is not None:
                    keeping.append(delta_text(frame.chunk))
                if frame.chunk.get("choices") or query.include_usage:
                    yield frame
        except TierError as error:
            estimate(trace, query, characters)
            blocked = isinstance(error, OutputBlocked)
            exchange.finish("blocked" if blocked else "failed", error.status, error_code=error.code)
            raise
        except BaseException:
            estimate(trace, query, characters)
            exchange.finish("cancelled", 499, error_code="cancelled")
            raise
        finally:
            await frames.aclose()
        estimate(trace, query, characters)
        text = "".join(keeping or ())
        if opened.cache_key is not None:
            self._keep_stream(exchange, opened.cache_key, text)
        exchange.finish("ok", 200, answer=text)

    def _keep_stream(self, exchange: Exchange, key: bytes, text: str) -> None:
        trace, query = exchange.trace, exchange.query
        finish = trace.finish_reason
        make = shapes.chat_choice if query.kind == "chat" else shapes.text_choice
        usage = shapes.usage(trace.usage.input_tokens, trace.usage.output_tokens)
        body = shapes.completion(query.kind, trace.model, [make(text, finish)], usage)
        self.runtime.cache.put(key, body, trace.revision, _route(trace), trace.usage.source)

    async def hold(self, exchange: Exchange, selection: Selection) -> Selection:
        """Set aside what the request may use, where a budget covers it.

        Where only the money is spent, those who take none may still answer.

        Returns: whom the budget allows to be asked.
        Raises: BudgetSpent.
        """
        runtime, query, trace = self.runtime, exchange.query, exchange.trace
        if not runtime.budgets:
            return selection
        who = subjects(exchange.principal.key_id, query.company_id, query.user_id)
        covering = runtime.budgets.covering(who)
        if not covering:
            return selection
        exchange.held = True
        usage = expected(query, runtime.config.budget_reserve_tokens)
        costs = [runtime.prices.estimate(r.upstream, r.model, usage) for r in selection.routes]
        need = Need(
            query.request_id, covering, usage.input_tokens + usage.output_tokens, max(costs)
        )
        try:
            await runtime.ledger.hold(need)
        except BudgetSpent:
            free = tuple(r for r, cost in zip(selection.routes, costs, strict=True) if not cost)
            if not free or len(free) == len(costs):
                raise
            await runtime.ledger.hold(need._replace(cost_microusd=0))
            trace.fallback_reason = "budget_spent"
            return dataclasses.replace(selection, routes=free)
        return selection

    def _cache_key(self, exchange: Exchange, selection: Selection) -> bytes | None:
        flags = self._flags(exchange.query)
        if not flags["cache"]:
            return None
        return self.runtime.cache.key(
            exchange.query, selection, flags.variants, self.runtime.versions
        )

    def _flags(self, query: Query) -> Resolved:
        return self.runtime.flags.resolve(query.user_id, query.company_id, query.feature)

    def _decide(self, exchange: Exchange) -> Selection:
        """Decide everything that is decided before an upstream is asked."""
        runtime, query, trace = self.runtime, exchange.query, exchange.trace
        prompts.check_sizes(query.messages, runtime.config.max_input_bytes)
        if runtime.consents and refuses_service(runtime.consents, query.company_id, query.user_id):
            raise Forbidden("consent to being served was withdrawn", code="consent_withdrawn")
        flags = self._flags(query)
        trace.flags, trace.flags_version = flags.variants, flags.version
        selection = runtime.selector.select(query, exchange.principal, flags)
        trace.reason, trace.selector = selection.reason, selection.selector
        if flags["log.content"] and not exchange.principal.anonymous:
            exchange.consent = granted(runtime.consents, query.company_id, query.user_id, "improve")
        _apply_context(query, exchange.principal, selection)
        trace.context_applied = query.contexts
        return selection

    def _call(self, query: Query, route: Route, trace: Trace, deadline_s: float) -> UpstreamCall:
        """Build the prompt for one upstream."""
        system = self.runtime.prompts.get(route.tier, "")
        window = route.upstream.context_tokens
        messages, left_out = prompts.assemble(query, system_prompt=system, context_tokens=window)
        trace.truncated_messages = left_out
        bare = None
        if query.company_context or query.abstraction_context:
            bare = prompts.without_context(query, system_prompt=system, left_out=left_out)
        return UpstreamCall(
            request_id=query.request_id,
            kind=query.kind,
            messages=messages,
            params=query.params,
            model=route.model,
            tier=route.tier,
            deadline_s=deadline_s,
            company_context=query.company_context,
            abstraction_context=query.abstraction_context,
            bare_messages=bare,
            traceparent=query.traceparent,
        )


@contextmanager
def recorded(exchange: Exchange) -> Iterator[None]:
    """Finish the exchange of work that fails, whatever the failure is."""
    try:
        yield
    except TierError as error:
        outcome: Outcome = "failed"
        if isinstance(error, OutputBlocked):
            outcome = "blocked"
        elif not exchange.trace.attempts and error.status < 500:
            outcome = "refused"
        exchange.finish(outcome, error.status, error_code=error.code)
        raise
    except Exception:
        exchange.finish("failed", 500, error_code="internal")
        raise
    except BaseException:
        exchange.finish("cancelled", 499, error_code="cancelled")
        raise


def _kept_text(exchange: Exchange, completion: Completion) -> str:
    return answer_text(completion.body) if exchange.consent else ""


def _route(trace: Trace) -> tuple[str, str, str, str]:
    return trace.tier_served, trace.provider, trace.upstream, trace.model


def _serve_hit(trace: Trace, hit: Hit) -> None:
    trace.cached = True
    trace.tier_served, trace.provider = hit.tier, hit.provider
    trace.upstream, trace.model, trace.revision = hit.upstream, hit.model, hit.revision


def new_request_id() -> str:
    """Make the id that names a request everywhere."""
    return "req_" + secrets.token_hex(12)


def identify(query: Query, principal: Principal) -> None:
    """Say who asks, for whom.

    A user's key is that user; a service's key may speak for one. Who belongs to one company asks
    for it on every tier: its record, budgets, flags and consent are about all of its requests.
    """
    if principal.kind == "user" or query.user_id is None:
        query.user_id = principal.user_id
    if query.company_id is None:
        query.company_id = principal.default_company()


def _apply_context(query: Query, principal: Principal, selection: Selection) -> None:
    """Show the company's tier what it may know of the company."""
    if selection.tier == "company" and query.company_id is not None:
        company = principal.companies.get(query.company_id)
        if company is not None and company.facts:
            query.company_context = company.facts


def body_bytes(completion: Completion) -> bytes:
    """Return the answer's bytes, the upstream's own where nothing was added."""
    return completion.raw if completion.raw is not None else orjson.dumps(completion.body)
