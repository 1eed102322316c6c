"""Companies: the list, one company with its facts, and its members."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import NotFound, TriptychError
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.console.people import facts
from triptych.panels.console.times import day
from triptych.panels.gateway_client import segment
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

PATH = "/console/people"
ONE = PATH + "/companies/{company_id}"
ID = r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"
ID_HINT = "Letters, digits and . _ @ -"


class NewCompany(BaseModel):
    """A company to add."""

    company_id: str = Limits(min_length=1, max_length=64, pattern=ID)
    name: str = Limits(min_length=1, max_length=200)
    industry: str | None = Limits(default=None, max_length=200)
    allow_external: bool = False


class Company(BaseModel):
    """What may change about a company."""

    name: str = Limits(min_length=1, max_length=200)
    industry: str = Limits(default="", max_length=200)
    facts: str = ""
    allow_external: bool = False


class Member(BaseModel):
    """A user to add to a company, or to invite."""

    user_id: str = Limits(min_length=1, max_length=64, pattern=ID)


EXTERNAL = Field(
    "allow_external", "Its content may leave this machine", "check",
    hint="Then providers outside, such as OpenAI, may answer its requests.",
)  # fmt: skip
ADD = FormSpec(
    NewCompany,
    (
        Field("company_id", "Company id", hint=ID_HINT),
        Field("name", "Name"),
        Field("industry", "Industry"),
        EXTERNAL,
    ),
)
CHANGE = FormSpec(
    Company,
    (
        Field("name", "Name"),
        Field("industry", "Industry"),
        Field("facts", "Facts", "area", placeholder="Leave policy: 25 days a year",
              hint="One a line, as name: value. The company tier answers with them."),
        EXTERNAL,
    ),
)  # fmt: skip
MEMBER = FormSpec(Member, (Field("user_id", "User"),))


def routes(site: Site) -> list[Route]:
    """Return the routes of companies."""
    pages = Pages(site)

    @pages.get(PATH, role="company_admin")
    async def companies(visit: Visit) -> Response:
        return await _list(visit, ADD.empty())

    @pages.post(PATH + "/companies", role="admin")
    async def add_company(visit: Visit) -> Response:
        form = ADD.read(visit.form)
        if form.value is not None:
            body = form.value.model_dump()
            try:
                await visit.gateway.ask("POST", "/admin/companies", body)
                form = ADD.empty(status=f"Company {form.value.company_id} added")
            except TriptychError as error:
                form = form.refused(error)
        return await _list(visit, form)

    @pages.get(ONE, role="company_admin")
    async def company(visit: Visit) -> Response:
        return await _one(visit)

    @pages.post(ONE, role="company_admin")
    async def change_company(visit: Visit) -> Response:
        form = CHANGE.read(visit.form)
        if form.value is not None:
            try:
                await _change(visit, form.value)
                form = Form(form.fields, form.typed, status="Company saved")
            except TriptychError as error:
                form = form.refused(error)
        return await _one(visit, form, "change")

    @pages.post(ONE + "/members", role="company_admin")
    async def add_member(visit: Visit) -> Response:
        form = MEMBER.read(visit.form)
        if form.value is not None:
            try:
                form = MEMBER.empty(status=await _let_in(visit, form.value.user_id))
            except TriptychError as error:
                form = form.refused(error)
        return await _one(visit, member=form, fragment="members")

    @pages.post(ONE + "/members/remove", role="company_admin")
    async def remove_member(visit: Visit) -> Response:
        notice = await attempt(_remove(visit, str(visit.form.get("user_id", ""))))
        return await _one(visit, fragment="members", notice=notice)

    return pages.routes


async def _list(visit: Visit, form: Form[NewCompany]) -> Response:
    accounts = await read_accounts(visit)
    rows: list[dict[str, Any]] = []
    for company_id in [None] if accounts.is_admin else accounts.companies:
        found = await visit.gateway.ask("GET", "/api/companies", company_id=company_id)
        rows += found["companies"]
    table = Table(
        "Companies",
        ("Company", "Id", "Industry", "Facts", "Content may leave this machine", "Since"),
        tuple(_row(row) for row in rows),
        empty="No company yet. Add one below.",
        numbers=frozenset({3}),
    )
    return visit.page(
        "console/people/companies.html", fragment="companies", table=table, form=form,
        status=form.http_status, accounts=accounts, at="companies",
    )  # fmt: skip


def _row(row: Mapping[str, Any]) -> Row:
    external = "yes" if row["allow_external"] else "no"
    cells = (
        row["name"], row["company_id"], row["industry"], len(row["facts"] or {}), external,
        day(row["created_at"]),
    )  # fmt: skip
    return Row(cells, href=f"{PATH}/companies/{segment(row['company_id'])}")


async def _read(visit: Visit) -> dict[str, Any]:
    company_id = str(visit.path["company_id"])
    found = await visit.gateway.ask("GET", "/api/companies", company_id=company_id)
    for row in found["companies"]:
        if row["company_id"] == company_id:
            return dict(row)
    raise NotFound("there is no such company", hint="choose one of the list")


async def _one(
    visit: Visit, form: Form[Company] | None = None, fragment: str = "",
    member: Form[Member] | None = None, notice: Notice | None = None,
) -> Response:  # fmt: skip
    accounts = await read_accounts(visit)
    row, found = await asyncio.gather(
        _read(visit),
        visit.gateway.ask("GET", f"/api/companies/{segment(visit.path['company_id'])}/members"),
    )
    if form is None:
        form = CHANGE.empty(
            name=row["name"], industry=row["industry"] or "", facts=facts.written(row["facts"]),
            allow_external=row["allow_external"],
        )  # fmt: skip
    members = found["members"]
    member = _with_users(member or MEMBER.empty(), accounts, members)
    status = max(form.http_status, member.http_status)
    return visit.page(
        "console/people/company.html", fragment=fragment, status=status, company=row, form=form,
        members=members, member=member, accounts=accounts, notice=notice or Notice(),
        path=f"{PATH}/companies/{segment(row['company_id'])}", at="companies",
    )  # fmt: skip


def _with_users(form: Form[Member], accounts: Accounts, members: Any) -> Form[Member]:
    """Return the form with the users that an admin may add; a company's admin types an id."""
    if not accounts.is_admin:
        return form
    inside = {row["user_id"] for row in members if row["role"] != "invited"}
    others = [(name, name) for name in accounts.users if name not in inside]
    return form.with_choices(user_id=others or [("", "Every user is a member")])


async def _change(visit: Visit, value: Company) -> None:
    row = await _read(visit)
    body = {
        "name": value.name,
        "industry": value.industry,
        "facts": facts.read(value.facts, row["facts"]),
        "allow_external": value.allow_external,
    }
    await visit.gateway.ask("PATCH", f"/api/companies/{segment(row['company_id'])}", body)


async def _let_in(visit: Visit, user_id: str) -> str:
    path = f"/api/companies/{segment(visit.path['company_id'])}/members/{segment(user_id)}"
    done = await visit.gateway.ask("PUT", path)
    if done.get("invited"):
        return f"{user_id} is invited and becomes a member by accepting"
    return f"{user_id} is a member"


async def _remove(visit: Visit, user_id: str) -> str:
    path = f"/api/companies/{segment(visit.path['company_id'])}/members/{segment(user_id)}"
    await visit.gateway.ask("DELETE", path)
    return f"{user_id} is no longer a member; the user's keys stay valid"
