"""The routes of requests: the list, one record, and what was written, for keys that may read it."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.responses import Response
from starlette.routing import Route

from triptych.panels.console.accounts import ANY, read_accounts
from triptych.panels.console.requests.kept import (
    UNREAD,
    Kept,
    allow_reading,
    find_request,
    read_kept,
)
from triptych.panels.console.requests.view import FILTERS, PATH, asked, listed, record
from triptych.panels.web.site import Pages, Site, Visit

PAGE = 50


def routes(site: Site) -> list[Route]:
    """Return the routes of requests."""
    pages = Pages(site)

    @pages.get(PATH, role="company_admin")
    async def requests(visit: Visit) -> Response:
        accounts = await read_accounts(visit)
        typed = FILTERS.read(FormData(list(visit.query.items()))).typed
        form = FILTERS.empty(**{name: value for name, value in typed.items() if value})
        query = {**asked(form.typed), **accounts.scope(form.typed.get("company_id"))}
        found = await visit.gateway.ask(
            "GET", "/api/requests", **query, after=visit.query.get("after"), limit=PAGE
        )
        form = form.with_choices(
            company_id=accounts.choices_of_companies(ANY if accounts.is_admin else None),
            user_id=accounts.choices_of_users(ANY), key_id=accounts.choices_of_keys(ANY),
        )  # fmt: skip
        return visit.page(
            "console/requests/page.html", fragment="rows", form=form,
            table=listed(found["requests"], found["next"], form.typed, accounts),
            later=bool(visit.query.get("after")),
        )  # fmt: skip

    @pages.get(PATH + "/{request_id}", role="company_admin")
    async def one_request(visit: Visit) -> Response:
        return await _record(visit, UNREAD)

    @pages.post(PATH + "/{request_id}/content", role="company_admin")
    async def content(visit: Visit) -> Response:
        return await _record(visit, await read_kept(visit, visit.path["request_id"]))

    @pages.post(PATH + "/{request_id}/allow", role="admin")
    async def allow(visit: Visit) -> Response:
        await allow_reading(visit.gateway)
        return await _record(visit, await read_kept(visit, visit.path["request_id"]))

    return pages.routes


async def _record(visit: Visit, kept: Kept) -> Response:
    request_id = visit.path["request_id"]
    accounts = await read_accounts(visit)
    request, scope = await find_request(visit, request_id)
    said = await visit.gateway.ask("GET", "/api/feedback", request_id=request_id, **scope)
    return visit.page(
        "console/requests/record.html", fragment="kept_part", kept=kept, request_id=request_id,
        record=record(request, said["feedback"], accounts), path=f"{PATH}/{request_id}",
    )  # fmt: skip
