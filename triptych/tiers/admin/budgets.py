"""Routes over money and tokens: budgets, what was used of them, what things cost."""

from __future__ import annotations

import time
from typing import Annotated, Any

from pydantic import Field

from triptych.errors import Forbidden, InvalidQuery
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.rules.budgets import PERIODS, Period, ends_at
from triptych.tiers.store import budgets as store
from triptych.tiers.store.database import Scope

routes = Routes()
_KINDS = ("key", "company", "user")
_MOST = 2**53
Amount = Annotated[int, Field(ge=0, le=_MOST)]
_DAY_S = 86_400


class NewBudget(Body):
    """How much may be used in a period; null leaves it without a limit."""

    max_tokens: Amount | None = None
    max_cost_microusd: Amount | None = None
    expected_version: int | None = None


@routes.add("GET", "/api/budgets", "company_admin", query=("company_id",))
async def list_budgets(call: RouteCall) -> Any:
    """List budgets with what is used and set aside of each."""
    rows = await store.listed(call.runtime.database, call.scope())
    now = time.time()
    for row in rows:
        row["ends_at"] = None if row["period"] == "total" else ends_at(row["period"], now)
    return {"budgets": rows}


@routes.add("PUT", "/api/budgets/{subject}/{period}", "company_admin", body=NewBudget,
            query=("company_id",))  # fmt: skip
async def set_budget(call: RouteCall) -> Any:
    """Set the budget of a `key:ID`, `user:ID` or `company:ID` for a day, a month or in all."""
    body: NewBudget = call.body
    if body.max_tokens is None and body.max_cost_microusd is None:
        raise InvalidQuery("a budget limits tokens or cost", param="max_tokens")
    subject, period = _subject(call), _period(call)
    version = await store.set_budget(
        call.runtime.database,
        subject,
        period,
        max_tokens=body.max_tokens,
        max_cost_microusd=body.max_cost_microusd,
        scope=_scope(call, subject),
        actor=call.actor,
        expected_version=body.expected_version,
    )
    await call.runtime.refresh()
    return {"subject": subject, "period": period, "version": version}


@routes.add("DELETE", "/api/budgets/{subject}/{period}", "company_admin", query=("company_id",))
async def remove_budget(call: RouteCall) -> Any:
    """Take a budget away: without a limit from the next request on."""
    subject, period = _subject(call), _period(call)
    await store.remove_budget(
        call.runtime.database, subject, period, scope=_scope(call, subject), actor=call.actor
    )
    await call.runtime.refresh()
    return {"subject": subject, "period": period}


@routes.add("GET", "/api/spend/{subject}", "company_admin", query=("days", "company_id"))
async def spend(call: RouteCall) -> Any:
    """Show what a key, a user or a company used on each of the last days."""
    subject = _subject(call)
    days = call.number("days", 31, 1, 3660)
    scope = _scope(call, subject, sets=False)
    since_day = int(time.time() // _DAY_S) - days + 1
    rows = await store.used_by_day(call.runtime.database, subject, since_day=since_day, scope=scope)
    return {"subject": subject, "days": rows}


@routes.add("GET", "/api/prices", "user")
async def prices(call: RouteCall) -> Any:
    """Show every dated price, and the model that costs are compared with."""
    found = call.runtime.prices
    return {
        "as_of": found.as_of,
        "reference_model": found.reference_model,
        "tokens": {
            name: [
                {"since_day": p.day, "input_usd_per_mtok": p.input, "output_usd_per_mtok": p.output}
                for p in dated
            ]
            for name, dated in found.tokens.items()
        },
        "hours": {
            name: [{"since_day": p.day, "usd_per_hour": p.usd} for p in dated]
            for name, dated in found.hours.items()
        },
    }


def _subject(call: RouteCall) -> str:
    kind, _, name = call.path["subject"].partition(":")
    if kind not in _KINDS or not 0 < len(name) <= 64:
        raise InvalidQuery("a subject is key:ID, user:ID or company:ID", param="subject")
    return f"{kind}:{name}"


def _period(call: RouteCall) -> Period:
    for period in PERIODS:
        if call.path["period"] == period:
            return period
    raise InvalidQuery(f"period is one of {', '.join(PERIODS)}", param="period")


def _scope(call: RouteCall, subject: str, *, sets: bool = True) -> Scope:
    """A company's admin shares out among its keys; what is above a company is the operator's.

    A user may belong to several companies, so only the operator may see its account.
    """
    kind, _, name = subject.partition(":")
    if call.principal.role != "admin" and (kind == "user" or (kind == "company" and sets)):
        raise Forbidden(f"the account of a {kind} is kept by an admin", code="not_your_budget")
    return call.scope(name if kind == "company" else None, reason="an admin keeps budgets")
