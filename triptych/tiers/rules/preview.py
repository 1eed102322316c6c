"""What a change of flags would have meant: the requests of the last hour, decided once more.

Each is decided with the flags as they are and as they would be, by the code that decides for
real, and the two are compared. Content is not stored, so that what `auto` found then is taken as
found; health is left out, because it would have been another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from triptych.errors import TierError
from triptych.tiers.rules.accounts import Company, Principal
from triptych.tiers.rules.flags import (
    REGISTRY,
    FlagProvider,
    FlagSet,
    Resolved,
    definition,
    evaluation_context,
    spec_of,
    variant_of,
)
from triptych.tiers.rules.query import Query
from triptych.tiers.rules.selector import Selector

NOT_ANSWERED = "none"


@dataclass(frozen=True, slots=True)
class Change:
    """A flag as it would be."""

    value: bool | str
    targeting: Any = None


def changed(flags: FlagSet, changes: Mapping[str, Change]) -> FlagSet:
    """Return the flags as they would be; what hangs on a flag goes off with it.

    Raises: NotFound, InvalidQuery.
    """
    new = dict(flags.definitions)
    for key, change in changes.items():
        new[key] = definition(change.value, spec_of(key), change.targeting)
        if change.value is False and not change.targeting:
            for child, spec in REGISTRY.items():
                if spec.parent == key:
                    new[child] = definition(False, spec)
    return FlagSet(flags.version, new, flags.user_overrides, flags.company_overrides)


def preview(
    selector: Selector,
    now: FlagSet,
    then: FlagSet,
    requests: Iterable[Mapping[str, Any]],
    companies: Mapping[str, Company],
    killed: Iterable[str] = (),
) -> dict[str, Any]:
    """Decide requests with two sets of flags, and count those that go elsewhere."""
    before, after = _Resolver(now, killed), _Resolver(then, killed)
    total = elsewhere = refused = 0
    moves: Counter[tuple[str, str]] = Counter()
    for row in requests:
        total += 1
        old, new = (_place(selector, r, row, companies) for r in (before, after))
        if old == new:
            continue
        elsewhere += 1
        refused += new == NOT_ANSWERED
        moves[(old, new)] += 1
    return {
        "requests": total,
        "elsewhere": elsewhere,
        "elsewhere_frac": elsewhere / total if total else 0.0,
        "refused": refused,
        "moves": [{"from": a, "to": b, "requests": n} for (a, b), n in moves.most_common(20)],
    }


class _Resolver:
    """Resolve one set of flags, once for each caller."""

    def __init__(self, flags: FlagSet, killed: Iterable[str]) -> None:
        self._provider = FlagProvider(killed)
        self._provider.load(flags)
        self._found: dict[tuple[str | None, str | None, str | None], Resolved] = {}

    def resolve(self, user: str | None, company: str | None, feature: str | None) -> Resolved:
        who = (user, company, feature)
        if who not in self._found:
            context = evaluation_context(user, company, feature)
            values: dict[str, bool | str] = {}
            variants = {}
            for key, spec in REGISTRY.items():
                ask: Any = self._provider.resolve_boolean_details
                if spec.choices:
                    ask = self._provider.resolve_string_details
                details = ask(key, spec.default, context)
                values[key] = details.value
                variants[key] = details.variant or variant_of(spec, spec.default)
            self._found[who] = Resolved(values, variants, 0)
        return self._found[who]


def _place(
    selector: Selector, flags: _Resolver, row: Mapping[str, Any], companies: Mapping[str, Company]
) -> str:
    """Return where a request goes first: `tier at upstream`, or `none`."""
    company = companies.get(row["company_id"] or "")
    asked = row["tier_asked"]
    if asked == "auto":
        asked = row["tier_served"] or "base"
    query = Query(
        request_id=row["request_id"],
        kind="chat",
        messages=[],
        params={},
        model_asked=row["model_asked"],
        tier_asked=asked,
        user_id=row["user_id"],
        company_id=row["company_id"],
        feature=row["feature"],
    )
    member = {company.company_id: company} if company else {}
    principal = Principal(row["key_id"], "service", "user", row["user_id"], member)
    resolved = flags.resolve(row["user_id"], row["company_id"], row["feature"])
    try:
        selection = selector.select(query, principal, resolved)
    except TierError:
        return NOT_ANSWERED
    return f"{selection.tier} at {selection.routes[0].upstream.name}"
