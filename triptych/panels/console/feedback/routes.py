"""The routes of feedback: the list, one entry beside its answer, and the training examples."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import FormData
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from triptych.errors import NotFound
from triptych.panels.console.accounts import ANY, read_accounts
from triptych.panels.console.feedback.view import FILTERS, PATH, address, entry, listed
from triptych.panels.console.requests.kept import UNREAD, Kept, allow_reading, read_kept
from triptych.panels.web.notices import Notice
from triptych.panels.web.site import Pages, Site, Visit

PAGE = 50
MOST = 500
NO_EXAMPLE = Notice(
    "No training example yet: no user or company that consented has given feedback.",
    bad=True,
)


def routes(site: Site) -> list[Route]:
    """Return the routes of feedback."""
    pages = Pages(site)

    @pages.get(PATH, role="company_admin")
    async def feedback(visit: Visit) -> Response:
        return await _list(visit, Notice())

    @pages.get(PATH + "/export", role="company_admin")
    async def export(visit: Visit) -> Response:
        accounts = await read_accounts(visit)
        scope = accounts.scope(visit.query.get("company_id"))
        lines = visit.gateway.lines("/api/feedback/export", **scope)
        first = await anext(lines, None)
        if first is None:
            return await _list(visit, NO_EXAMPLE)
        headers = {"content-disposition": 'attachment; filename="feedback.jsonl"'}
        return StreamingResponse(
            _from(first, lines), headers=headers, media_type="application/jsonl"
        )

    @pages.get(PATH + "/{feedback_id}", role="company_admin")
    async def one_feedback(visit: Visit) -> Response:
        return await _entry(visit, UNREAD)

    @pages.post(PATH + "/{feedback_id}/content", role="company_admin")
    async def feedback_content(visit: Visit) -> Response:
        request = visit.query.get("request", "")
        return await _entry(visit, await read_kept(visit, request))

    @pages.post(PATH + "/{feedback_id}/allow", role="admin")
    async def feedback_allow(visit: Visit) -> Response:
        await allow_reading(visit.gateway)
        request = visit.query.get("request", "")
        return await _entry(visit, await read_kept(visit, request))

    return pages.routes


async def _list(visit: Visit, notice: Notice) -> Response:
    accounts = await read_accounts(visit)
    typed = FILTERS.read(FormData(list(visit.query.items()))).typed
    form = FILTERS.empty(**{name: value for name, value in typed.items() if value})
    scope = accounts.scope(form.typed.get("company_id"))
    found = await visit.gateway.ask(
        "GET", "/api/feedback", kind=form.typed.get("kind"), before=visit.query.get("before"),
        limit=PAGE, **scope,
    )  # fmt: skip
    rows = found["feedback"]
    end = rows[-1]["created_at"] if len(rows) == PAGE else None
    choices = accounts.choices_of_companies(ANY if accounts.is_admin else None)
    return visit.page(
        "console/feedback/page.html", fragment="rows", form=form.with_choices(company_id=choices),
        table=listed(rows, end, form.typed, accounts), notice=notice, scope=scope,
        later=bool(visit.query.get("before")),
    )  # fmt: skip


async def _entry(visit: Visit, kept: Kept) -> Response:
    accounts = await read_accounts(visit)
    scope: dict[str, Any] = accounts.scope(visit.query.get("company"))
    found = await visit.gateway.ask(
        "GET", "/api/feedback", request_id=visit.query.get("request"), limit=MOST, **scope
    )
    wanted = visit.path["feedback_id"]
    row = next((row for row in found["feedback"] if row["feedback_id"] == wanted), None)
    if row is None:
        raise NotFound("there is no such feedback", hint="it may have been withdrawn")
    path, _, query = address(row).partition("?")
    return visit.page(
        "console/feedback/entry.html", fragment="kept_part", entry=entry(row, accounts), kept=kept,
        path=path, query=f"?{query}",
    )  # fmt: skip


async def _from(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in rest:
        yield line
