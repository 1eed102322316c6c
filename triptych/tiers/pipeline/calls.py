"""Build the call for one upstream: the prompt of its tier, the contexts, what fits its window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych.errors import UpstreamUnfit
from triptych.tiers.pipeline.attempts.masking import Mask
from triptych.tiers.providers.base import UpstreamCall
from triptych.tiers.rules import prompts
from triptych.tiers.rules.query import Query, Trace
from triptych.tiers.rules.selector import Route, Selection
from triptych.wire import fields
from triptych.wire.tiers import challenged_tier


class CallBuilder:
    """Turn a query and one of its routes into a call."""

    def __init__(self) -> None:
        self.prompts: Mapping[str, str] = {}
        """The active system prompt of each tier and challenger, as admins activate them."""

    def prompt(self, route: Route) -> str:
        """Return the system prompt of a route: a challenger's own, else that of its tier."""
        own = self.prompts.get(route.name) if challenged_tier(route.name) else None
        return self.prompts.get(route.tier, "") if own is None else own

    def build(
        self, query: Query, selection: Selection, route: Route, trace: Trace, deadline_s: float
    ) -> UpstreamCall:
        """Build the call, and note in the trace how many messages did not fit.

        Raises: UpstreamUnfit where the upstream takes no unknown fields.
        """
        system = self.prompt(route)
        contexts = selection.contexts
        messages, left_out = prompts.assemble(
            query,
            contexts,
            system_prompt=system,
            context_tokens=route.upstream.context_tokens,
        )
        trace.truncated_messages = left_out
        bare = None
        if contexts.names:
            bare = prompts.without_context(query, system_prompt=system, left_out=left_out)
        company, abstraction = contexts.company, contexts.abstraction
        mask = Mask() if selection.masked and route.upstream.external else None
        if mask is not None:
            messages, bare = mask.hide(messages), mask.hide(bare)
            company, abstraction = mask.hide(company), mask.hide(abstraction)
        return UpstreamCall(
            request_id=query.request_id,
            kind=query.kind,
            messages=messages,
            params=_fitting(query, route),
            model=route.model,
            tier=route.tier,
            deadline_s=deadline_s,
            company_context=company,
            abstraction_context=abstraction,
            bare_messages=bare,
            traceparent=trace.traceparent,
            mask=mask or None,
        )


def _fitting(query: Query, route: Route) -> Mapping[str, Any]:
    """Return the parameters that this upstream is sent, as its `unknown_fields` wants it."""
    known = fields.CHAT if query.kind == "chat" else fields.TEXT
    if route.upstream.unknown_fields == "pass" or known.issuperset(query.params):
        return query.params
    if route.upstream.unknown_fields == "refuse":
        strange = next(name for name in query.params if name not in known)
        raise UpstreamUnfit(
            f"{strange[:64]} is not a known field, and {route.upstream.name} takes no other",
            hint='leave it out, or set unknown_fields = "pass" or "drop" for this upstream',
        )
    return {name: value for name, value in query.params.items() if name in known}
