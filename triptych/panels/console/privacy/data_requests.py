"""Data requests: export, erase, restrict or correct what is stored about a user or a company."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from triptych.errors import InvalidQuery, TriptychError
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.console.times import when
from triptych.panels.gateway_client import segment
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

PATH = "/console/privacy"
ONE = PATH + "/requests/{privacy_id}"
KINDS = {
    "export": "Export what is stored",
    "erasure": "Erase what is stored",
    "restriction": "Use it for nothing more",
    "correction": "Correct it",
}
CATEGORIES = {
    "content": "what was written",
    "feedback": "feedback",
    "requests": "records of requests",
    "account": "the account",
}
STATES = {"requested": "waiting", "running": "in progress"}
MARKS = {"failed": "bad", "refused": "warn", "done": "good"}
EFFECTS = {
    "erasure": "This cannot be taken back: {what} about {whom} is erased, unless a legal hold keeps"
    " it. Sums without a name stay.",
    "restriction": "Nothing about {whom} is kept or used for training from now on.",
}


class NewRequest(BaseModel):
    """A data request."""

    kind: Literal["export", "erasure", "restriction", "correction"] = "export"
    company_id: str = ""
    user_id: str = ""
    categories: list[str] = Limits(default_factory=list)
    details: str = Limits(default="", max_length=4000)
    agreed: bool = False


class Close(BaseModel):
    """What was corrected."""

    note: str = Limits(min_length=1, max_length=4000)


NEW = FormSpec(
    NewRequest,
    (
        Field("kind", "What", "pick", choices=tuple(KINDS.items())),
        Field("company_id", "About the company", "pick"),
        Field("user_id", "About the user", "pick"),
        Field("categories", "Only (nothing chosen: everything)", "picks",
              choices=tuple(CATEGORIES.items())),
        Field("details", "In words", "area", hint="What is wrong, and what would be right"),
        Field("agreed", "", "hidden"),
    ),
)  # fmt: skip
CLOSE = FormSpec(Close, (Field("note", "What was corrected", "area"),))


def routes(site: Site) -> list[Route]:
    """Return the routes of data requests."""
    pages = Pages(site)

    @pages.get(PATH, role="company_admin")
    async def data_requests(visit: Visit) -> Response:
        return await _list(visit, NEW.empty())

    @pages.post(PATH + "/requests", role="company_admin")
    async def new_request(visit: Visit) -> Response:
        form, warning = NEW.read(visit.form), ""
        if form.value is not None:
            try:
                accounts = await read_accounts(visit)
                warning = _warning(form.value, accounts)
                if not warning:
                    form = NEW.empty(status=await _ask(visit, form.value, accounts))
            except TriptychError as error:
                form = form.refused(error)
        return await _list(visit, form, warning)

    @pages.get(ONE, role="company_admin")
    async def data_request(visit: Visit) -> Response:
        return await _one(visit)

    @pages.post(ONE + "/close", role="admin")
    async def close_request(visit: Visit) -> Response:
        form = CLOSE.read(visit.form)
        notice = Notice()
        if form.value is not None:
            notice = await attempt(_close(visit, form.value.note))
        return await _one(visit, form, notice)

    @pages.get(ONE + "/export", role="company_admin")
    async def export(visit: Visit) -> Response:
        privacy_id = segment(visit.path["privacy_id"])
        lines = visit.gateway.lines(f"/api/privacy/requests/{privacy_id}/export")
        first = await anext(lines, b"")
        headers = {"content-disposition": f'attachment; filename="{privacy_id}.jsonl"'}
        return StreamingResponse(
            _from(first, lines), headers=headers, media_type="application/jsonl"
        )

    return pages.routes


async def _list(visit: Visit, form: Form[NewRequest], warning: str = "") -> Response:
    accounts = await read_accounts(visit)
    rows: list[Mapping[str, Any]] = []
    for company_id in [None] if accounts.is_admin else accounts.companies:
        found = await visit.gateway.ask("GET", "/api/privacy/requests", company_id=company_id)
        rows += found["requests"]
    table = Table(
        "Data requests",
        ("When", "What", "About", "By", "State", "Finished", "What was done"),
        tuple(_row(row, accounts) for row in rows),
        empty="No data request yet.",
        stack=True,
    )
    form = form.with_choices(
        company_id=accounts.choices_of_companies(("", "Any") if accounts.is_admin else None),
        user_id=accounts.choices_of_users(("", "Any" if accounts.is_admin else "Everyone in it")),
    )
    sent = {name: value for name, value in form.typed.items() if name != "agreed" and value}
    return visit.page(
        "console/privacy/data_requests.html", fragment="requests", status=form.http_status,
        table=table, form=form, warning=warning, sent=sent, accounts=accounts, at="requests",
        waiting=any(row["state"] in STATES for row in rows),
    )  # fmt: skip


def _row(row: Mapping[str, Any], accounts: Accounts) -> Row:
    cells = (
        when(row["created_at"]),
        KINDS.get(row["kind"], row["kind"]),
        _whom(row["company_id"] or "", row["user_id"] or "", accounts),
        accounts.key(row["asked_by"]),
        STATES.get(row["state"], row["state"]),
        when(row["finished_at"]),
        _result(row["result"]),
    )
    href = f"{PATH}/requests/{segment(row['privacy_id'])}"
    return Row(cells, href=href, mark=MARKS.get(row["state"], ""))


def _result(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_named(name)}: {_result(inner)}" for name, inner in value.items())[:300]
    return "" if value is None else str(value)[:300]


def _named(name: str) -> str:
    return name.replace("_", " ")


def _whom(company_id: str, user_id: str, accounts: Accounts) -> str:
    names = [f"user {user_id}"] if user_id else []
    names += [f"company {accounts.company(company_id)}"] if company_id else []
    return " of ".join(names)


def _warning(value: NewRequest, accounts: Accounts) -> str:
    """Return what to agree to before it is done.

    Raises: InvalidQuery where it is about no one.
    """
    whom = _whom(value.company_id, value.user_id, accounts)
    if not whom:
        raise InvalidQuery("choose a company or a user", param="company_id")
    if value.agreed or value.kind not in EFFECTS:
        return ""
    chosen = ", ".join(CATEGORIES.get(one, one) for one in value.categories)
    return EFFECTS[value.kind].format(what=chosen or "everything stored", whom=whom)


async def _ask(visit: Visit, value: NewRequest, accounts: Accounts) -> str:
    body = {
        "kind": value.kind,
        "company_id": value.company_id or None,
        "user_id": value.user_id or None,
        "categories": value.categories,
        "details": value.details.strip(),
    }
    await visit.gateway.ask("POST", "/api/privacy/requests", body)
    whom = _whom(value.company_id, value.user_id, accounts)
    return f"Data request sent: {KINDS[value.kind].lower()}, {whom}"


async def _one(
    visit: Visit, form: Form[Close] | None = None, notice: Notice | None = None
) -> Response:
    privacy_id = segment(visit.path["privacy_id"])
    accounts, row = await asyncio.gather(
        read_accounts(visit), visit.gateway.ask("GET", f"/api/privacy/requests/{privacy_id}")
    )
    details: Mapping[str, Any] = row["details"] or {}
    facts = {
        "What": KINDS.get(row["kind"], row["kind"]),
        "About": _whom(row["company_id"] or "", row["user_id"] or "", accounts),
        "Only": ", ".join(CATEGORIES.get(one, one) for one in details.get("categories") or ()),
        "In words": details.get("text"),
        "By": accounts.key(row["asked_by"]),
        "When": when(row["created_at"]),
        "State": STATES.get(row["state"], row["state"]),
        "Finished": when(row["finished_at"]),
        "What was done": _result(row["result"]),
    }
    return visit.page(
        "console/privacy/data_request.html", fragment="request", row=row, accounts=accounts,
        facts={name: value for name, value in facts.items() if value}, notice=notice or Notice(),
        form=form or CLOSE.empty(), path=f"{PATH}/requests/{privacy_id}", at="requests",
        is_open=row["state"] in STATES,
    )  # fmt: skip


async def _close(visit: Visit, note: str) -> str:
    path = f"/admin/privacy/requests/{segment(visit.path['privacy_id'])}/close"
    await visit.gateway.ask("POST", path, {"note": note})
    return "Correction closed"


async def _from(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for line in rest:
        yield line
