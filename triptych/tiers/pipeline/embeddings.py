"""Embeddings of the first upstream that makes them, on record and under budget like an answer.

Left out: prompts, tiers' contexts and the cache, which are about answers.
"""

from __future__ import annotations

from typing import Any

from triptych.errors import Forbidden, NoProviderAvailable
from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.pipeline.service import LLMService, new_request_id, recorded
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.flags import Resolved
from triptych.tiers.rules.query import Query, Usage
from triptych.tiers.rules.selector import NAMED, Route, Selection
from triptych.wire.tiers import TIERS


def question(model: str, texts: Any, *, user_id: str | None, company_id: str | None) -> Query:
    """Describe an embeddings request."""
    given = [texts] if isinstance(texts, str) else texts
    # token ids count as what they are, texts by their length
    messages = [{"role": "user", "content": one} for one in given if isinstance(one, str)]
    return Query(
        request_id=new_request_id(),
        kind="text",
        operation="embeddings",
        messages=messages,
        params={"max_tokens": 1},
        model_asked=model,
        tier_asked=model if model in TIERS else NAMED,
        user_id=user_id,
        company_id=company_id,
    )


async def embed(
    service: LLMService, query: Query, principal: Principal, payload: dict[str, Any]
) -> tuple[bytes, str]:
    """Pass a request to the first upstream that serves its model.

    Returns: the upstream's own bytes, and the request's id.
    Raises: TierError, with its record safe.
    """
    runtime = service.runtime
    exchange = service.begin(query, principal)
    query = exchange.query
    with recorded(exchange):
        flags = runtime.flags.resolve(query.user_id, query.company_id, query.feature)
        trace = exchange.trace
        trace.flags, trace.flags_version = flags.variants, flags.version
        trace.reason = "explicit_model"
        routes = _routes(runtime, query, principal, flags)
        selection = await service.hold(
            exchange,
            Selection(query.tier_asked, "", routes, masked=principal.masked(query.company_id)),
        )
        body, raw = await runtime.dispatcher.embed(query, selection, trace, payload)
        usage = body.get("usage") if isinstance(body, dict) else None
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if type(tokens) is int and tokens >= 0:
            trace.usage = Usage(tokens, 0, "provider")
        exchange.finish("ok", 200)
    return raw, query.request_id


def _routes(
    runtime: Runtime, query: Query, principal: Principal, flags: Resolved
) -> tuple[Route, ...]:
    """Find the upstreams that make embeddings under this name and may be sent the texts.

    Raises: Forbidden, NoProviderAvailable.
    """
    if query.company_id is not None and not principal.member_of(query.company_id):
        raise Forbidden("you are not a member of this company", code="not_a_member")
    model, providers = query.model_asked, runtime.dispatcher.providers
    principal.require_model(model)
    external_allowed = query.company_id is None or principal.external_allowed(query.company_id)
    routes = tuple(
        Route(upstream, query.tier_asked, upstream.models[model])
        for upstream in runtime.selector.catalogue.upstreams.values()
        if upstream.name in providers
        and providers[upstream.name].embeds
        and model in upstream.models
        and upstream.company_id in (None, query.company_id)
        and (external_allowed or not upstream.external)
        and flags[f"provider.{upstream.provider}"]
    )
    if not routes:
        raise NoProviderAvailable(
            f"no upstream makes embeddings for {model!r}",
            hint="declare an openai or local upstream with this model",
        )
    return routes
