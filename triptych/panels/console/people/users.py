"""Users: the list, and adding one. For admins of the whole service."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import TriptychError
from triptych.panels.console.accounts import read_accounts
from triptych.panels.console.people.companies import ID, ID_HINT, PATH
from triptych.panels.console.times import day
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

ROLES = (
    ("user", "user"), ("company_admin", "admin of a company"), ("admin", "admin of everything"),
)  # fmt: skip


class NewUser(BaseModel):
    """A user to add."""

    user_id: str = Limits(min_length=1, max_length=64, pattern=ID)
    role: Literal["user", "company_admin", "admin"] = "user"
    company_id: str = ""


ADD = FormSpec(
    NewUser,
    (
        Field("user_id", "User id", hint=ID_HINT),
        Field("role", "Role", "pick", choices=ROLES),
        Field("company_id", "Member of", "pick"),
    ),
)


def routes(site: Site) -> list[Route]:
    """Return the routes of users."""
    pages = Pages(site)

    @pages.get(PATH + "/users", role="admin")
    async def users(visit: Visit) -> Response:
        return await _list(visit, ADD.empty())

    @pages.post(PATH + "/users", role="admin")
    async def add_user(visit: Visit) -> Response:
        form = ADD.read(visit.form)
        if form.value is not None:
            body = {
                "user_id": form.value.user_id,
                "role": form.value.role,
                "companies": [form.value.company_id] if form.value.company_id else [],
            }
            try:
                await visit.gateway.ask("POST", "/admin/users", body)
                form = ADD.empty(status=f"User {form.value.user_id} added")
            except TriptychError as error:
                form = form.refused(error)
        return await _list(visit, form)

    return pages.routes


async def _list(visit: Visit, form: Form[NewUser]) -> Response:
    accounts = await read_accounts(visit)
    rows = (await visit.gateway.ask("GET", "/admin/users"))["users"]
    roles = dict(ROLES)
    table = Table(
        "Users",
        ("User", "Role", "Member of", "Since"),
        tuple(
            Row((
                row["user_id"], roles.get(row["role"], row["role"]),
                ", ".join(accounts.company(one) for one in row["companies"]),
                day(row["created_at"]),
            ))
            for row in rows
        ),
        empty="No user yet. Add one below.",
    )  # fmt: skip
    form = form.with_choices(company_id=accounts.choices_of_companies(("", "No company yet")))
    return visit.page(
        "console/people/users.html", fragment="users", table=table, form=form,
        status=form.http_status, accounts=accounts, at="users",
    )  # fmt: skip
