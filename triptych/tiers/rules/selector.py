"""Which tier answers, and who is asked in which order.

The order of decisions: what was asked explicitly; entitlement; flags; for `auto` the classifier,
which may abstain; then health (the breakers, at the moment of asking) and the fallback order.
Each decision leaves its reason, which travels with the answer.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from triptych.errors import Forbidden, InvalidQuery, NoProviderAvailable, NotFound
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.catalogue import HOSTED, Catalogue, Upstream
from triptych.tiers.rules.flags import Resolved
from triptych.tiers.rules.query import Contexts, Query
from triptych.wire.tiers import CHALLENGERS, TIERS, challenged_tier, challenger_of

AUTO = "auto"
NAMED = "named"
_NO_CONTEXTS = Contexts()


@dataclass(frozen=True, slots=True)
class Route:
    """One upstream that may be asked, and as which tier and model."""

    upstream: Upstream
    tier: str
    model: str
    reason: str = ""
    """Set when this route is not what was asked: `tier_fallback`."""
    name: str = ""
    """The name under which the upstream offers it: the tier, its challenger, or a model."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The tier that answers, why, and whom to ask in order."""

    tier: str
    reason: str
    routes: tuple[Route, ...]
    selector: str = ""
    """Version and scores of the classifier, when it decided."""
    contexts: Contexts = _NO_CONTEXTS
    """What the model is shown of the company."""
    masked: bool = False
    """Whether the company wants personal data masked before external upstreams."""


class Classifier(Protocol):
    """Guess the tier a text belongs to."""

    version: str

    def classify(self, text: str) -> tuple[str | None, float]:
        """Return the tier and its probability; None when it abstains."""
        ...


class Selector:
    """Turn a query, its caller and the flags into a selection."""

    def __init__(
        self,
        catalogue: Catalogue,
        provider_order: Sequence[str],
        classifier: Classifier | None = None,
        *,
        sourced: Container[str] = (),
    ) -> None:
        self.catalogue = catalogue
        self.provider_order = tuple(provider_order)
        self.classifier = classifier
        self.sourced = sourced
        """Tiers with a source of knowledge, which answers without a provider too."""
        self._plans: dict[tuple[object, ...], tuple[Route, ...]] = {}

    def replace(self, catalogue: Catalogue) -> None:
        """Take a new catalogue; every later request sees it."""
        self.catalogue = catalogue
        self._plans.clear()

    def select(self, query: Query, principal: Principal, flags: Resolved) -> Selection:
        """Decide.

        Raises: Forbidden, InvalidQuery, NotFound, NoProviderAvailable.
        """
        principal.require_model(
            query.model_asked if query.tier_asked == NAMED else query.tier_asked
        )
        if query.tier_asked == NAMED:
            return self._named(query, principal, flags)
        wanted, reason, scores = self._wanted(query, principal, flags)
        self._entitled(wanted, query, principal)
        tier, reason = _flagged(wanted, reason, flags)
        external_allowed = wanted != "company" or principal.external_allowed(query.company_id)
        routes = self._routes(tier, query.company_id, external_allowed, flags)
        if not routes and tier not in self.sourced:
            raise _none_available(tier, flags, external_allowed)
        contexts, masked = _contexts(tier, query, principal), principal.masked(query.company_id)
        return Selection(tier, reason, routes, scores, contexts, masked)

    def _wanted(self, query: Query, principal: Principal, flags: Resolved) -> tuple[str, str, str]:
        if query.tier_asked in TIERS:
            return query.tier_asked, f"explicit_{query.explicit}", ""
        if query.tier_asked != AUTO:
            raise InvalidQuery(f"tier {query.tier_asked!r} is unknown", param="model")
        if not flags["auto"] or self.classifier is None:
            return "base", "auto_off", ""
        tier, probability = self.classifier.classify(query.input)
        scores = f"{self.classifier.version} {tier or 'abstained'} p={probability:.2f}"
        if tier is None:
            return "base", "auto_abstained", scores
        if tier == "company" and not principal.member_of(query.company_id):
            return "base", "auto_not_entitled", scores
        if not flags[f"tier.{tier}"]:
            return "base", "auto_flag_disabled", scores
        return tier, "auto", scores

    def _entitled(self, tier: str, query: Query, principal: Principal) -> None:
        """A company's tier is for its members only."""
        if principal.anonymous and tier != "base":
            raise Forbidden("anonymous callers may use the base tier only")
        if query.company_id is not None and not principal.member_of(query.company_id):
            raise Forbidden("you are not a member of this company", code="not_a_member")
        if tier == "company" and query.company_id is None:
            raise Forbidden(
                "the company tier needs a company",
                hint="send x-triptych-company or companyId",
                code="company_required",
            )

    def _named(self, query: Query, principal: Principal, flags: Resolved) -> Selection:
        model = query.model_asked
        if query.company_id is not None and not principal.member_of(query.company_id):
            raise Forbidden("you are not a member of this company", code="not_a_member")
        offered = [
            u
            for u in self.catalogue.named(model)
            if u.company_id is None or u.company_id == query.company_id
        ]
        if model in CHALLENGERS and principal.role != "admin":
            offered = []
        if not offered or principal.anonymous:
            raise NotFound(
                f"there is no model {model!r}",
                hint=f"models: {', '.join((*TIERS, AUTO, *self.catalogue.model_names(principal)))}",
                code="model_not_found",
            )
        # A challenger is asked exactly as its tier asks: same prompt, contexts and evidence.
        tier = challenged_tier(model) or NAMED
        if tier != NAMED:
            self._entitled(tier, query, principal)
        routes = tuple(
            Route(u, tier, u.models[model], name=model)
            for u in offered
            if _enabled(u.provider, flags)
        )
        if not routes:
            raise _none_available(model, flags, external_allowed=True)
        contexts = _contexts(tier, query, principal)
        masked = principal.masked(query.company_id)
        return Selection(tier, "explicit_model", routes, contexts=contexts, masked=masked)

    def challengers(
        self, tier: str, query: Query, principal: Principal, flags: Resolved
    ) -> tuple[Route, ...]:
        """Return the routes to a tier's challengers that may be sent a copy of a query."""
        external = tier != "company" or principal.external_allowed(query.company_id)
        name = challenger_of(tier)
        return tuple(
            Route(u, tier, u.models[name], name=name)
            for provider in self.provider_order
            if _enabled(provider, flags)
            for u in self.catalogue.serving(provider, name, query.company_id)
            if external or not u.external
        )

    def _routes(
        self, tier: str, company_id: str | None, external_allowed: bool, flags: Resolved
    ) -> tuple[Route, ...]:
        key = (tier, company_id, external_allowed, *flags.variants.values())
        routes = self._plans.get(key)
        if routes is None:
            routes = self._plan(tier, company_id, external_allowed, flags)
            if len(self._plans) > 10_000:
                self._plans.clear()
            self._plans[key] = routes
        return routes

    def _plan(
        self, tier: str, company_id: str | None, external_allowed: bool, flags: Resolved
    ) -> tuple[Route, ...]:
        """Every route in order: the tier on each provider, then the base tier on each."""
        preferred = str(flags["provider"])
        order = self.provider_order
        if flags["order"] != "configured":
            order = (*str(flags["order"]).split(">"), "anthropic", "gemini", "scripted")
        if preferred != AUTO:
            order = (preferred, *(p for p in order if p != preferred))
        order = tuple(p for p in order if _enabled(p, flags))
        if not any(flags[f"tier.{t}"] for t in TIERS):
            # With every tier off only providers that are no tier's home may answer.
            order = tuple(p for p in order if p in (*HOSTED, "scripted"))
        tiers = [tier]
        if tier != "base" and flags["tier.base"]:
            tiers.append("base")
        routes = [
            Route(u, t, u.models[name], "" if t == tier else "tier_fallback", name)
            for t in tiers
            for name in _offered_as(t, flags)
            for p in order
            for u in self.catalogue.serving(p, name, company_id)
            if external_allowed or not u.external
        ]
        return tuple(routes) if flags["fallback"] else _without_fallback(routes)


def _without_fallback(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Return the first route and those of upstreams that are equal to it."""
    if not routes or not routes[0].upstream.group:
        return tuple(routes[:1])
    one = routes[0]
    return tuple(
        r for r in routes
        if (r.upstream.group, r.tier, r.name) == (one.upstream.group, one.tier, one.name)
    )  # fmt: skip


def _offered_as(tier: str, flags: Resolved) -> tuple[str, ...]:
    """Return the names under which upstreams offer a tier: a challenger first where it is on.

    The tier's own upstreams follow, so that a challenger that fails costs no answer.
    """
    return (challenger_of(tier), tier) if flags[f"challenger.{tier}"] else (tier,)


def _flagged(wanted: str, reason: str, flags: Resolved) -> tuple[str, str]:
    """A tier that is off is answered by the base tier, and says so."""
    if flags[f"tier.{wanted}"]:
        return wanted, reason
    if not any(flags[f"tier.{tier}"] for tier in TIERS):
        return "base", "no_tier_enabled"
    if wanted != "base" and flags["tier.base"]:
        return "base", "flag_disabled"
    raise NoProviderAvailable(
        f"the tier {wanted} is turned off", hint=f"flag tier.{wanted}", code="flag_disabled"
    )


def _contexts(tier: str, query: Query, principal: Principal) -> Contexts:
    """Show the company's tier, and no other, what it may know of the company."""
    if tier != "company" or query.company_id is None:
        return _NO_CONTEXTS
    company = principal.companies.get(query.company_id)
    return Contexts(company=company.facts if company is not None and company.facts else None)


def _enabled(provider: str, flags: Resolved) -> bool:
    if provider == "scripted" and flags["real_ai_only"]:
        return False
    return bool(flags[f"provider.{provider}"])


def _none_available(what: str, flags: Resolved, external_allowed: bool) -> NoProviderAvailable:
    on = [k for k, v in flags.values.items() if k.startswith("provider.") and v]
    why = "" if external_allowed else "; the company allows no external provider"
    return NoProviderAvailable(
        f"no provider may answer for {what}{why}",
        hint=f"flags that are on: {', '.join(on) or 'none'}; see `triptych gateway flags`",
    )
