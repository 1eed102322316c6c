"""The facade: flags, selector, prompt, cache, provider, fallback, filter, record - in this order.

`query` and its kin are the originals' interface for Python programs; `whole` and `frames` are
what the routes call. Both run the same pipeline. Left out: parsing (`bodies`), HTTP (`api`).
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from triptych.errors import BudgetSpent, Forbidden, OutputBlocked, TierError
from triptych.tiers.pipeline import knowledge, structure
from triptych.tiers.pipeline.accumulator import AnswerAccumulator, replay
from triptych.tiers.pipeline.cache import Hit
from triptych.tiers.pipeline.dispatch import Opened, nothing
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.pipeline.structure import Structured, Variations
from triptych.tiers.providers.base import Completion, Frame
from triptych.tiers.rules import prompts
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.acting import acting_user
from triptych.tiers.rules.budgets import Need, subjects
from triptych.tiers.rules.consent import granted, refuses_service
from triptych.tiers.rules.flags import Resolved
from triptych.tiers.rules.query import Answer, Contexts, Outcome, Query, QueryContext, original_tier
from triptych.tiers.rules.selector import Selection
from triptych.tiers.rules.tokens import expected
from triptych.wire import lenient_json
from triptych.wire.evidence import Evidence
from triptych.wire.openai import delta_text


class LLMService:
    """Answer queries through three tiers and any provider, and record what happened."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

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
        exchange = self.begin(self._from_context(text, context, params or {}), principal)
        await self.whole(exchange)
        query, trace = exchange.query, exchange.trace
        return Answer(
            content=exchange.answer.text,
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
            citations=trace.citations,
            evidence=trace.evidence,
        )

    async def stream_text(
        self, text: str, context: QueryContext, principal: Principal
    ) -> AsyncGenerator[str]:
        """Answer one question piece by piece.

        Raises: TierError.
        """
        query = self._from_context(text, context, {}, stream=True)
        exchange = self.begin(query, principal)
        opened = await self.open_stream(exchange)
        frames = self.frames(exchange, opened)
        try:
            async for frame in frames:
                if piece := delta_text(frame.chunk):
                    yield piece
        finally:
            await frames.aclose()
            await opened.rest.aclose()

    def _from_context(
        self,
        text: str,
        context: QueryContext,
        more: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> Query:
        messages = prompts.conversation(text, context.conversation_history, system_allowed=True)
        params: dict[str, Any] = {}
        if context.temperature is not None:
            params["temperature"] = context.temperature
        params.update(more)
        tier = original_tier(context.use_company_model, context.use_abstraction)
        return Query(
            request_id=new_request_id(),
            kind="chat",
            messages=messages,
            params=params,
            model_asked=tier,
            stream=stream,
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
        runtime, query = self.runtime, identified(query, principal)
        answer = AnswerAccumulator(query, runtime.output_filter)
        return Exchange(query, principal, runtime.observers, answer)

    async def whole(self, exchange: Exchange) -> Completion:
        """Answer a query whole; its record is safe when this returns.

        Raises: TierError, with its record safe too.
        """
        with recorded(exchange):
            selection = self._decide(exchange)
            evidence = await knowledge.find(self.runtime.sources, exchange, selection.tier)
            key = None if evidence else self._cache_key(exchange, selection)
            if evidence is not None:
                completion = await self._answer(exchange, selection, evidence)
            elif key is None:
                completion = await self._ask(exchange, selection)
            else:
                completion = await self._ask_once(exchange, selection, key)
            exchange.finish("ok", 200)
            self.runtime.shadow(exchange)
            return completion

    async def _ask(self, exchange: Exchange, selection: Selection) -> Completion:
        selection = await self.hold(exchange, selection)
        completion = await self.runtime.dispatcher.complete(
            exchange.query, selection, exchange.trace
        )
        exchange.answer.take_completion(completion)
        return completion

    async def _ask_once(self, exchange: Exchange, selection: Selection, key: bytes) -> Completion:
        """Answer from the cache, or once for all identical requests of this moment."""
        cache, done = self.runtime.cache, []

        async def work() -> None:
            completion = await self._ask(exchange, selection)
            done.append(completion)
            self._keep(exchange, key, completion.revision)

        hit = cache.get(key) or await cache.fly(key, work)
        if hit is None:
            return done[0]
        completion = Completion({**hit.body, "id": exchange.query.request_id}, None, hit.revision)
        _serve_hit(exchange, hit)
        exchange.answer.take_completion(completion)
        return completion

    async def _answer(
        self, exchange: Exchange, selection: Selection, evidence: Evidence
    ) -> Completion:
        """Answer from evidence; never cached, since rights and documents change meanwhile."""
        contexts = Contexts(evidence=evidence.prompt())
        selection = dataclasses.replace(selection, contexts=contexts)
        source = self.runtime.sources[selection.tier]
        return await knowledge.answer(
            source, evidence, exchange, lambda: self._ask(exchange, selection)
        )

    async def open_stream(self, exchange: Exchange) -> Opened:
        """Open a stream up to its first token; fallbacks are over when this returns.

        Raises: TierError, with its record safe.
        """
        with recorded(exchange):
            selection = self._decide(exchange)
            trace = exchange.trace
            evidence = await knowledge.find(self.runtime.sources, exchange, selection.tier)
            if evidence is not None:
                work = self._answer(exchange, selection, evidence)
                return await knowledge.opened(exchange, work, self.runtime.config)
            key = self._cache_key(exchange, selection)
            if key is not None and (hit := self.runtime.cache.get(key)) is not None:
                _serve_hit(exchange, hit)
                frames = replay(hit.body, exchange.query, hit.revision)
                return Opened(frames, nothing(), None)
            selection = await self.hold(exchange, selection)
            opened = await self.runtime.dispatcher.open(exchange.query, selection, trace)
            exchange.cache_key = key
            copied = bool(self.runtime.challengers(exchange))
            exchange.answer.keeping = key is not None or bool(exchange.consent) or copied
            first = opened.frames[-1].chunk
            trace.model = str(first.get("model") or trace.model)
            trace.revision = str(first.get("system_fingerprint") or trace.revision)
            return opened

    async def frames(self, exchange: Exchange, opened: Opened) -> AsyncGenerator[Frame]:
        """Yield a stream's frames; its record is safe when the last one has been taken.

        Raises: TierError, with its record safe.
        """
        answer, query = exchange.answer, exchange.query
        frames = self.runtime.dispatcher.frames(opened, exchange.trace, answer)
        try:
            async for frame in frames:
                if not frame.chunk or frame.chunk.get("choices") or query.include_usage:
                    yield frame
        except TierError as error:
            blocked = isinstance(error, OutputBlocked)
            exchange.finish("blocked" if blocked else "failed", error.status, error_code=error.code)
            raise
        except BaseException:
            exchange.finish("cancelled", 499, error_code="cancelled")
            raise
        finally:
            await frames.aclose()
        if query.include_usage and not answer.usage_seen:
            yield answer.usage_frame()
        exchange.finish("ok", 200)
        self.runtime.shadow(exchange)
        if exchange.cache_key is not None:
            self._keep(exchange, exchange.cache_key, exchange.trace.revision)

    def _keep(self, exchange: Exchange, key: bytes, revision: str) -> None:
        trace, answer = exchange.trace, exchange.answer
        route = (trace.tier_served, trace.provider, trace.upstream, answer.model or trace.model)
        self.runtime.cache.put(key, answer.body(), revision, route, answer.usage.source)

    async def hold(self, exchange: Exchange, selection: Selection) -> Selection:
        """Set aside what the request may use, where a budget covers it.

        Where only the money is spent, those routes that cost none may still answer.

        Returns: the routes that the budget allows.
        Raises: BudgetSpent.
        """
        runtime, query, trace = self.runtime, exchange.query, exchange.trace
        exchange.selection = selection
        await runtime.key_limits.hold_for(exchange)
        if not runtime.budgets:
            return selection
        who = subjects(exchange.principal.key_id, query.company_id, query.user_id)
        covering = runtime.budgets.covering(who)
        if not covering:
            return selection
        exchange.held = True
        usage = expected(query, runtime.config.budget_reserve_tokens)
        costs = [runtime.prices.estimate(r.upstream, r.model, usage) for r in selection.routes]
        tokens = usage.input_tokens + usage.output_tokens
        need = Need(query.request_id, covering, tokens, max(costs, default=0))
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
        """Decide everything that is decided before an upstream is called."""
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
        trace.context_applied = selection.contexts.names
        return selection


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


def _serve_hit(exchange: Exchange, hit: Hit) -> None:
    trace = exchange.trace
    trace.cached = True
    exchange.answer.tokens_source = hit.tokens_source
    trace.tier_served, trace.provider = hit.tier, hit.provider
    trace.upstream, trace.model, trace.revision = hit.upstream, hit.model, hit.revision


def new_request_id() -> str:
    """Make the id that names a request everywhere."""
    return "req_" + secrets.token_hex(12)


def identified(query: Query, principal: Principal) -> Query:
    """Return the query with its user and company.

    For whom a key may act is `acting`'s rule. A member of one company only belongs to it on every
    tier: its record, budgets, flags and consent cover all of its requests.

    Raises: Forbidden for a user's key that names another user.
    """
    user_id, company_id = acting_user(principal, query.user_id), query.company_id
    if company_id is None:
        company_id = principal.default_company()
    if user_id == query.user_id and company_id == query.company_id:
        return query
    return dataclasses.replace(query, user_id=user_id, company_id=company_id)


def body_bytes(completion: Completion) -> bytes:
    """Return the answer's bytes, the upstream's own where nothing was added."""
    return completion.raw if completion.raw is not None else lenient_json.dumps(completion.body)
