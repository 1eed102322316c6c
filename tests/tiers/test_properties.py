"""Properties that hold for any input: router, flags, tenancy, classifiers (check J6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from triptych.config.gateway import UpstreamConfig
from triptych.errors import TierError
from triptych.tiers.rules import catalogue
from triptych.tiers.rules.accounts import Company, Principal
from triptych.tiers.rules.catalogue import Catalogue
from triptych.tiers.rules.classifier import NgramClassifier
from triptych.tiers.rules.flags import (
    REGISTRY,
    Flags,
    FlagSet,
    Resolved,
    default_definitions,
    definition,
)
from triptych.tiers.rules.query import Query
from triptych.tiers.rules.redaction import redact
from triptych.tiers.rules.selector import Selector
from triptych.tiers.store import tables
from triptych.tiers.store.database import ScopeError, company, scoped
from triptych.tiers.store.flags import rollout
from triptych.wire.tiers import TIERS

PROVIDERS = ("openai", "hf_spaces", "local", "scripted")
UPSTREAMS = st.dictionaries(
    st.sampled_from([f"u{n}" for n in range(6)]),
    st.tuples(
        st.sampled_from(PROVIDERS),
        st.lists(st.sampled_from(TIERS), unique=True),
        st.booleans(),
        st.sampled_from([None, "acme", "globex"]),
    ),
    max_size=6,
)
SWITCHES = st.fixed_dictionaries(
    {key: st.booleans() for key, spec in REGISTRY.items() if not spec.choices}
    | {"provider": st.sampled_from(REGISTRY["provider"].choices)}
)


@given(UPSTREAMS, SWITCHES, st.sampled_from((*TIERS, "auto")), st.sampled_from([None, "acme"]))
@settings(max_examples=300, deadline=None)
def test_j6_whatever_is_configured_the_router_keeps_every_rule(
    upstreams: Any, switches: Any, tier: str, company_id: str | None
) -> None:
    """No provider that is off, no foreign company's upstream, nothing external unless allowed."""
    members = Principal("k", "user", "user", "ann", {"acme": Company("acme", allow_external=False)})
    built = Catalogue(
        catalogue.owned(
            catalogue.build(
                name,
                UpstreamConfig(
                    provider,
                    "" if provider == "scripted" else "https://a.example/v1",
                    dict.fromkeys(tiers, "m"),
                    external=external,
                ),
            ),
            owner,
        )
        for name, (provider, tiers, external, owner) in upstreams.items()
    )
    query = Query(
        "r",
        "chat",
        [{"role": "user", "content": "our policy on travel"}],
        {},
        tier,
        tier_asked=tier,
        user_id="ann",
        company_id=company_id,
    )
    switches.setdefault("order", "configured")
    flags = Resolved(switches, {key: str(value) for key, value in switches.items()}, 1)
    try:
        found = Selector(built, PROVIDERS, NgramClassifier.load()).select(query, members, flags)
    except TierError as error:
        assert error.status in (403, 503)
        return
    assert found.routes
    for route in found.routes:
        upstream = route.upstream
        assert switches[f"provider.{upstream.provider}"]
        assert not (upstream.provider == "scripted" and switches["real_ai_only"])
        assert upstream.company_id in (None, company_id)
        assert route.tier in upstream.models
        assert route.tier in (found.tier, "base")
        if found.tier == "company":
            assert not upstream.external, "its content stays here"
    if not switches["fallback"]:
        assert len(found.routes) == 1
    assert found.reason


@given(
    st.integers(0, 99), st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20)
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_j6_a_rollout_is_sticky_monotone_and_below_any_override(
    percentage: int, user: str, other: str
) -> None:
    flags, key = Flags(), "tier.company"
    spec = REGISTRY[key]

    def value(share: int, **overrides: Any) -> Any:
        rules = default_definitions() | {key: definition(False, spec, rollout(share))}
        flags.load(FlagSet(share, rules, **overrides))
        return flags.resolve(user)[key]

    first = value(percentage)
    assert value(percentage) == first
    assert value(100) is True
    assert value(0) is False
    if first:
        assert value(percentage + 1) is True
    for variant in ("on", "off"):
        assert value(percentage, user_overrides={(key, user): variant}) is (variant == "on")
    if other != user:
        assert value(percentage, user_overrides={(key, other): "on"}) == first


TENANTS = [t for t in tables.metadata.sorted_tables if "tenant" in t.info]


@given(st.sampled_from(TENANTS), st.sampled_from(TENANTS), st.text(max_size=20), st.booleans())
@settings(max_examples=150, deadline=None)
def test_j6_every_scoped_statement_is_limited_to_its_company_in_every_table(
    one: Any, two: Any, company_id: str, changes: bool
) -> None:
    scope = company(company_id)
    column = one.c[one.info["tenant"]]
    statement: Any = update(one).values({column: "x"}) if changes else select(one, two)
    bound = scoped(statement, scope, None).compile()
    limited = [name for name, value in bound.params.items() if value == company_id]
    wanted = {one.name} if changes else {one.name, two.name}
    assert len(limited) >= len(wanted)
    if company_id != "other":
        with pytest.raises(ScopeError):
            scoped(one.insert(), scope, {"company_id": "other"})


@given(st.text(max_size=2000))
@settings(max_examples=150, deadline=None)
def test_j6_the_classifier_is_sure_of_itself_within_reason_for_any_text(text: str) -> None:
    model = NgramClassifier.load()
    probabilities = model.probabilities(text)
    assert abs(sum(probabilities) - 1) < 1e-9
    tier, probability = model.classify(text)
    assert (tier is None) == (probability < model.threshold)
    assert model.classify(text) == (tier, probability)


@given(st.text(max_size=300), st.sampled_from(("ann@acme.example", "4111 1111 1111 1111")))
@settings(max_examples=150, deadline=None)
def test_j6_redaction_takes_out_what_is_planted_and_is_done_after_once(
    text: str, planted: str
) -> None:
    once = redact(f"{text} | {planted} | {text}")
    assert planted not in once
    assert redact(once) == once
