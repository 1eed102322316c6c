"""Retention: how long each class of data is kept, and whose data must stay (legal holds)."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import TriptychError
from triptych.panels.console.accounts import read_accounts
from triptych.panels.console.times import when
from triptych.panels.gateway_client import segment
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

PATH = "/console/privacy/retention"


class Hold(BaseModel):
    """A legal hold to add."""

    subject: str = Limits(pattern=r"^(company|user):.+$")
    reason: str = Limits(min_length=1, max_length=1000)


HOLD = FormSpec(
    Hold,
    (
        Field("subject", "Whose data must stay", "pick"),
        Field("reason", "Reason", hint="Such as a court order"),
    ),
)


def routes(site: Site) -> list[Route]:
    """Return the routes of retention."""
    pages = Pages(site)

    @pages.get(PATH, role="admin")
    async def retention(visit: Visit) -> Response:
        return await _page(visit, HOLD.empty())

    @pages.post(PATH + "/holds", role="admin")
    async def add_hold(visit: Visit) -> Response:
        form = HOLD.read(visit.form)
        if form.value is not None:
            path = f"/admin/legal-holds/{segment(form.value.subject)}"
            try:
                await visit.gateway.ask("PUT", path, {"reason": form.value.reason})
                form = HOLD.empty(status="Legal hold added")
            except TriptychError as error:
                form = form.refused(error)
        return await _page(visit, form)

    @pages.post(PATH + "/holds/lift", role="admin")
    async def lift_hold(visit: Visit) -> Response:
        return await _page(visit, HOLD.empty(), await attempt(_lift(visit)))

    return pages.routes


async def _lift(visit: Visit) -> str:
    subject = str(visit.form.get("subject", ""))
    await visit.gateway.ask("DELETE", f"/admin/legal-holds/{segment(subject)}")
    return f"Legal hold on {subject} lifted"


async def _page(visit: Visit, form: Form[Hold], notice: Notice | None = None) -> Response:
    accounts, kept, held = await asyncio.gather(
        read_accounts(visit),
        visit.gateway.ask("GET", "/admin/retention"),
        visit.gateway.ask("GET", "/admin/legal-holds"),
    )
    table = Table(
        "How long data is kept",
        ("Data", "Days"),
        tuple(Row((name.replace("_", " "), f"{n:g}")) for name, n in kept["days"].items()),
        numbers=frozenset({1}),
    )
    subjects = [(f"company:{one}", f"Company {name}") for one, name in accounts.companies.items()]
    subjects += [(f"user:{one}", f"User {one}") for one in accounts.users]
    holds = [(row, when(row["created_at"])) for row in held["holds"]]
    return visit.page(
        "console/privacy/retention.html", fragment="holds", status=form.http_status, table=table,
        holds=holds, form=form.with_choices(subject=subjects), notice=notice or Notice(),
        accounts=accounts, at="retention",
    )  # fmt: skip
