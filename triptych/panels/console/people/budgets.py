"""Budgets: what a company, a user or a key may use in a period, and what was used of it.

An empty field is no limit. A limit of 0 is refused: it would refuse every request, and revoking a
key says that more clearly. A limit that is used up already is set only after one agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import InvalidQuery, TriptychError
from triptych.formatting import format_count
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.console.people.companies import PATH
from triptych.panels.console.times import day
from triptych.panels.gateway_client import segment
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

HERE = PATH + "/budgets"
PERIODS = (("day", "day"), ("month", "month"), ("total", "all time"))
_KINDS = {"company": "Company", "user": "User", "key": "Key"}
_MICRO = 1e6


class Budget(BaseModel):
    """A budget to set; None is no limit."""

    whom: str = Limits(pattern=r"^(company|user|key):.+$")
    period: Literal["day", "month", "total"] = "month"
    tokens: int | None = Limits(default=None, ge=1)
    usd: float | None = Limits(default=None, gt=0)
    agreed: bool = False


SET = FormSpec(
    Budget,
    (
        Field("whom", "Budget of", "pick"),
        Field("period", "Period", "pick", choices=PERIODS),
        Field("tokens", "Tokens at most", "number", hint="Empty: no limit"),
        Field("usd", "US dollars at most", "number", hint="Empty: no limit"),
        Field("agreed", "", "hidden"),
    ),
)


def routes(site: Site) -> list[Route]:
    """Return the routes of budgets."""
    pages = Pages(site)

    @pages.get(HERE, role="company_admin")
    async def budgets(visit: Visit) -> Response:
        return await _page(visit)

    @pages.post(HERE, role="company_admin")
    async def set_budget(visit: Visit) -> Response:
        form, warning = SET.read(visit.form), ""
        if form.value is not None:
            try:
                warning = await _set(visit, form.value)
                if not warning:
                    accounts = await read_accounts(visit)
                    form = SET.empty(status=_said(form.value, accounts))
            except TriptychError as error:
                form = form.refused(error)
        return await _page(visit, form, warning)

    @pages.post(HERE + "/end", role="company_admin")
    async def end_budget(visit: Visit) -> Response:
        return await _page(visit, notice=await attempt(_end(visit)))

    return pages.routes


async def _rows(visit: Visit, accounts: Accounts) -> list[dict[str, Any]]:
    if accounts.is_admin:
        return list((await visit.gateway.ask("GET", "/api/budgets"))["budgets"])
    found = []
    for company_id in accounts.companies:
        answer = await visit.gateway.ask("GET", "/api/budgets", company_id=company_id)
        found += answer["budgets"]
    return found


async def _page(
    visit: Visit, form: Form[Budget] | None = None, warning: str = "", notice: Notice | None = None
) -> Response:
    accounts = await read_accounts(visit)
    rows = await _rows(visit, accounts)
    chosen = _one(rows, visit.query.get("whom", ""), visit.query.get("period", ""))
    if form is None:
        form = SET.empty(**_typed(chosen, visit))
    form = form.with_choices(whom=_choices(accounts))
    table = Table(
        "Budgets",
        ("Budget of", "Period", "Tokens", "Cost", "Starts again", "Set by"),
        tuple(_row(row, accounts) for row in rows),
        empty="No budget yet: only the rate limits apply.",
        stack=True,
    )
    return visit.page(
        "console/people/budgets.html", fragment="budgets", table=table, form=form, at="budgets",
        status=form.http_status, accounts=accounts, warning=warning, chosen=chosen,
        notice=notice or Notice(), name=_name(chosen["subject"], accounts) if chosen else "",
    )  # fmt: skip


def _typed(chosen: Mapping[str, Any] | None, visit: Visit) -> dict[str, Any]:
    if chosen is None:
        asked = {"whom": visit.query.get("whom"), "period": visit.query.get("period")}
        return {name: value for name, value in asked.items() if value}
    cost = chosen["max_cost_microusd"]
    limits = {"tokens": chosen["max_tokens"], "usd": None if cost is None else cost / _MICRO}
    given = {name: value for name, value in limits.items() if value is not None}
    return {"whom": chosen["subject"], "period": chosen["period"], **given}


def _choices(accounts: Accounts) -> list[tuple[str, str]]:
    """Return whose budget this visitor may set: a company's admin that of its keys only."""
    keys = [(f"key:{key}", f"Key {name}") for key, name in accounts.choices_of_keys()]
    if not accounts.is_admin:
        return keys
    companies = [(f"company:{one}", f"Company {name}") for one, name in accounts.companies.items()]
    return [*companies, *((f"user:{one}", f"User {one}") for one in accounts.users), *keys]


def _name(subject: str, accounts: Accounts) -> str:
    kind, _, name = subject.partition(":")
    named = {"company": accounts.company, "key": accounts.key}.get(kind, str)(name)
    return f"{_KINDS.get(kind, kind)} {named}"


def _row(row: Mapping[str, Any], accounts: Accounts) -> Row:
    cost = row["max_cost_microusd"]
    tokens = row["tokens"] + row["held_tokens"]
    spent = (row["cost_microusd"] + row["held_cost_microusd"]) / _MICRO
    cells = (
        _name(row["subject"], accounts),
        dict(PERIODS).get(row["period"], row["period"]),
        _share(tokens, row["max_tokens"], format_count),
        _share(spent, None if cost is None else cost / _MICRO, lambda usd: f"${usd:,.2f}"),
        day(row["ends_at"]) or "never",
        row["updated_by"],
    )
    over = _is_over(row, row["max_tokens"], cost)
    return Row(
        cells, href=f"{HERE}?whom={segment(row['subject'])}&period={row['period']}",
        mark="bad" if over else "",
    )  # fmt: skip


def _share(used: float, most: float | None, written: Any) -> str:
    if most is None:
        return f"{written(used)}, no limit"
    return f"{written(used)} of {written(most)} ({used / most:.0%})" if most else written(used)


def _is_over(row: Mapping[str, Any], tokens: int | None, microusd: float | None) -> bool:
    return (tokens is not None and row["tokens"] >= tokens) or (
        microusd is not None and row["cost_microusd"] >= microusd
    )


def _one(rows: Sequence[Mapping[str, Any]], whom: str, period: str) -> Mapping[str, Any] | None:
    return next((row for row in rows if (row["subject"], row["period"]) == (whom, period)), None)


async def _set(visit: Visit, value: Budget) -> str:
    """Set a budget. Returns: what to agree to first, or nothing once it is set."""
    if value.tokens is None and value.usd is None:
        raise InvalidQuery(
            "a budget limits tokens or dollars", param="tokens", hint="fill in one of the two"
        )
    accounts = await read_accounts(visit)
    now = _one(await _rows(visit, accounts), value.whom, value.period)
    cost = None if value.usd is None else round(value.usd * _MICRO)
    if now is not None and _is_over(now, value.tokens, cost) and not value.agreed:
        used = f"{format_count(now['tokens'])} tokens, ${now['cost_microusd'] / _MICRO:,.2f}"
        return (
            f"{_name(value.whom, accounts)} has used this up already ({used}): its requests are"
            " refused from the next one on."
        )
    body = {
        "max_tokens": value.tokens,
        "max_cost_microusd": cost,
        "expected_version": now["version"] if now else 0,
    }
    path = f"/api/budgets/{segment(value.whom)}/{value.period}"
    await visit.gateway.ask("PUT", path, body)
    return ""


def _said(value: Budget, accounts: Accounts) -> str:
    limits = [f"{value.tokens:,} tokens"] if value.tokens is not None else []
    limits += [f"${value.usd:,.2f}"] if value.usd is not None else []
    each = "in all" if value.period == "total" else f"a {value.period}"
    return f"Budget set: {_name(value.whom, accounts)} may use {' and '.join(limits)} {each}"


async def _end(visit: Visit) -> str:
    whom, period = str(visit.form.get("whom", "")), str(visit.form.get("period", ""))
    await visit.gateway.ask("DELETE", f"/api/budgets/{segment(whom)}/{segment(period)}")
    return "Budget removed: no limit from the next request on"
