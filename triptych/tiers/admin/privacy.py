"""Routes over personal data: content with permission, exports, erasure, legal holds, retention."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from pydantic import Field
from starlette.responses import StreamingResponse

from triptych.errors import EditConflict, Forbidden, InvalidQuery, NotFound
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.rules.acting import whole_person
from triptych.tiers.store import contents
from triptych.tiers.store.database import across, company
from triptych.tiers.store.personal_data import personal, privacy, retention

routes = Routes()
Id = Annotated[str, Field(min_length=1, max_length=64)]
_CONTENT = "content"


class NewRequest(Body):
    """What is asked about the records of a user or a company."""

    kind: privacy.Kind
    user_id: Id | None = None
    company_id: Id | None = None
    categories: list[personal.Category] = Field(default_factory=list, max_length=4)
    before: float | None = Field(default=None, ge=0, lt=1e12)
    details: str = Field(default="", max_length=4000)


class Note(Body):
    """What was done about a correction."""

    note: str = Field(min_length=1, max_length=4000)


class NewHold(Body):
    """Why records must stay."""

    reason: str = Field(min_length=1, max_length=1000)


@routes.add("GET", "/api/requests/{request_id}/content", "company_admin", query=("company_id",))
async def show_content(call: RouteCall) -> Any:
    """Show a request's kept texts to a key with the scope `content`; every look is audited."""
    request_id = call.path["request_id"][:64]
    if _CONTENT not in call.principal.scopes:
        await contents.note(call.runtime.database, request_id, actor=call.actor, seen=False)
        raise Forbidden(
            "this key may not read content",
            hint="an admin makes one with scopes=['content']",
            code="content_not_permitted",
        )
    return await contents.look(call.runtime.database, call.scope(), request_id, actor=call.actor)


@routes.add("POST", "/api/privacy/requests", "user", body=NewRequest)
async def ask(call: RouteCall) -> Any:
    """Ask for an export, an erasure, a restriction or a correction of what is stored."""
    body: NewRequest = call.body
    subject = _subject(call, body)
    details: dict[str, Any] = {"categories": list(dict.fromkeys(body.categories))}
    if body.before is not None:
        details["before"] = body.before
    if body.details:
        details["text"] = body.details
    privacy_id = await privacy.ask(
        call.runtime.database, body.kind, subject, details, actor=call.actor
    )
    await call.runtime.refresh()
    return {"privacy_id": privacy_id, "state": "requested"}


def _subject(call: RouteCall, body: NewRequest) -> personal.Subject:
    """Return whose records the caller may request: its own, or as an admin its company's."""
    me, role = call.principal.user_id, call.principal.role
    if body.company_id is None and body.user_id is None:
        if me is None:
            raise InvalidQuery("whose records?", param="user_id", hint="send user_id or company_id")
        return personal.Subject(None, whole_person(call.principal))
    if body.company_id is None and role == "admin":
        return personal.Subject(None, body.user_id)
    if body.company_id is None and body.user_id == me:
        return personal.Subject(None, whole_person(call.principal))
    call.principal.require("company_admin")
    scope = call.scope(body.company_id)
    return personal.Subject(scope.company_id, body.user_id)


@routes.add("GET", "/api/privacy/requests", "user", query=("company_id", "state"))
async def list_requests(call: RouteCall) -> Any:
    """List requests with their state: one's own, a company's, or all for an admin."""
    state = call.query.get("state")
    if call.principal.role == "user":
        scope, me = across("a user reads its own requests"), call.principal.user_id
        if bound := call.principal.bound_to:
            scope = company(bound)
        rows = (
            [] if me is None
            else await privacy.listed(call.runtime.database, scope, user_id=me, state=state)
        )  # fmt: skip
    else:
        rows = await privacy.listed(call.runtime.database, call.scope(), state=state)
    return {"requests": rows}


@routes.add("GET", "/api/privacy/requests/{privacy_id}", "user", query=("company_id",))
async def show_request(call: RouteCall) -> Any:
    """Show one request: requested, running, done, refused or failed, and what was done."""
    return await _one(call)


async def _one(call: RouteCall) -> dict[str, Any]:
    privacy_id = call.path["privacy_id"][:64]
    row = await privacy.one(
        call.runtime.database, across("whose request it is is looked at next"), privacy_id
    )
    principal = call.principal
    mine = principal.user_id is not None and row["user_id"] == principal.user_id
    mine = mine and principal.bound_to in (None, row["company_id"])
    leads = principal.role == "company_admin" and principal.member_of(row["company_id"])
    if not (mine or leads or principal.role == "admin"):
        raise NotFound("there is no such request", code="privacy_request_not_found")
    return row


@routes.add("GET", "/api/privacy/requests/{privacy_id}/export", "user",
            query=("company_id", "format", "category"))  # fmt: skip
async def download(call: RouteCall) -> Any:
    """Return the records of an export, as JSON lines or one category as CSV."""
    row = await _one(call)
    if row["kind"] != "export" or row["state"] != "done":
        raise EditConflict("there is no finished export", hint="look at its state")
    subject = personal.Subject(row["company_id"], row["user_id"])
    categories = row["details"].get("categories") or personal.CATEGORIES
    await contents.note(call.runtime.database, row["privacy_id"], actor=call.actor, seen=True)
    if call.query.get("format") == "csv":
        category = call.query.get("category", "requests")
        if category not in categories:
            raise InvalidQuery(f"category is one of {', '.join(categories)}", param="category")
        rows = personal.export(call.runtime.database, subject, [category])
        return StreamingResponse(_csv(rows), media_type="text/csv")
    rows = personal.export(call.runtime.database, subject, categories)
    return StreamingResponse(_lines(rows), media_type="application/jsonl")


async def _lines(rows: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for row in rows:
        yield orjson.dumps(row) + b"\n"


async def _csv(rows: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """Write a table after the other, each with its own header."""
    table = None
    async for row in rows:
        lines = io.StringIO()
        writer = csv.writer(lines)
        if row["table"] != table:
            if table is not None:
                writer.writerow([])
            table = row["table"]
            writer.writerow(row)
        writer.writerow([_cell(value) for value in row.values()])
        yield lines.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    # a spreadsheet must not take a text for a formula
    return f"'{text}" if isinstance(value, str) and text[:1] in "=+-@\t\r" else text


@routes.add("POST", "/admin/privacy/requests/{privacy_id}/close", "admin", body=Note)
async def close(call: RouteCall) -> Any:
    """Mark a correction as carried out."""
    privacy_id = call.path["privacy_id"][:64]
    await privacy.close_correction(
        call.runtime.database, privacy_id, call.body.note, actor=call.actor
    )
    return {"privacy_id": privacy_id, "state": "done"}


@routes.add("GET", "/admin/legal-holds", "admin")
async def list_holds(call: RouteCall) -> Any:
    """List whose records must stay, and why."""
    return {"holds": await retention.list_holds(call.runtime.database)}


@routes.add("PUT", "/admin/legal-holds/{subject}", "admin", body=NewHold)
async def put_hold(call: RouteCall) -> Any:
    """Keep every record of a `company:ID` or `user:ID`, whatever runs out or is asked."""
    subject = _held(call)
    await retention.put_hold(call.runtime.database, subject, call.body.reason, actor=call.actor)
    return {"subject": subject}


@routes.add("DELETE", "/admin/legal-holds/{subject}", "admin")
async def lift_hold(call: RouteCall) -> Any:
    """Let records run out and be erased again."""
    subject = _held(call)
    await retention.lift_hold(call.runtime.database, subject, actor=call.actor)
    return {"subject": subject}


def _held(call: RouteCall) -> str:
    kind, _, name = call.path["subject"].partition(":")
    if kind not in ("company", "user") or not 0 < len(name) <= 64:
        raise InvalidQuery("a hold is on company:ID or user:ID", param="subject")
    return f"{kind}:{name}"


@routes.add("GET", "/admin/retention", "admin")
async def show_retention(call: RouteCall) -> Any:
    """Show how long each class is kept, and the last report."""
    return {
        "days": retention.days(call.runtime.config.retention_days),
        "last": await retention.last(call.runtime.database),
    }


@routes.add("POST", "/admin/retention/run", "admin")
async def run_retention(call: RouteCall) -> Any:
    """Let run out now what was kept long enough."""
    return {"report": await call.runtime.background.tidy(time.time())}
