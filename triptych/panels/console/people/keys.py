"""Keys: the list, creating one that is shown once, revoking one, and the right to read content."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from pydantic import Field as Limits
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import NotFound, TriptychError
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.console.people.companies import PATH
from triptych.panels.console.people.users import ROLES
from triptych.panels.console.times import day
from triptych.panels.gateway_client import segment
from triptych.panels.web.forms import Field, Form, FormSpec
from triptych.panels.web.notices import Notice, attempt
from triptych.panels.web.site import Pages, Site, Visit
from triptych.panels.web.tables import Row, Table

ONE = PATH + "/keys/{key_id}"
_DAYS = 90


class NewKey(BaseModel):
    """A key to create."""

    name: str = Limits(min_length=1, max_length=128)
    role: Literal["user", "company_admin", "admin"] = "user"
    company_id: str = ""
    user_id: str = ""
    days: float | None = Limits(default=_DAYS, gt=0, le=3650)
    content: bool = False


CREATE = FormSpec(
    NewKey,
    (
        Field("name", "Name of the key"),
        Field("role", "May act as", "pick", choices=ROLES),
        Field("company_id", "Company", "pick"),
        Field("user_id", "User", "pick"),
        Field("days", "Expires after days", "number", hint=f"Empty: after {_DAYS} days"),
        Field("content", "May read what people wrote", "check",
              hint="Every reading is recorded in the audit."),
    ),
)  # fmt: skip


def routes(site: Site) -> list[Route]:
    """Return the routes of keys."""
    pages = Pages(site)

    @pages.get(PATH + "/keys", role="company_admin")
    async def keys(visit: Visit) -> Response:
        return await _list(visit, CREATE.empty())

    @pages.post(PATH + "/keys", role="company_admin")
    async def create_key(visit: Visit) -> Response:
        form, key = CREATE.read(visit.form), ""
        if form.value is not None:
            try:
                key = await _create(visit, form.value)
                form = CREATE.empty()
            except TriptychError as error:
                form = form.refused(error)
        return await _list(visit, form, key)

    @pages.get(ONE, role="company_admin")
    async def key(visit: Visit) -> Response:
        return await _one(visit, Notice())

    @pages.post(ONE + "/revoke", role="company_admin")
    async def revoke_key(visit: Visit) -> Response:
        return await _one(visit, await attempt(_revoke(visit)))

    @pages.post(ONE + "/content", role="admin")
    async def allow_content(visit: Visit) -> Response:
        return await _one(visit, await attempt(_content(visit)))

    return pages.routes


async def _create(visit: Visit, value: NewKey) -> str:
    accounts = await read_accounts(visit)
    company_id = value.company_id or accounts.scope().get("company_id")
    body = {
        "name": value.name,
        "kind": "user" if value.user_id else "service",
        "role": value.role,
        "user_id": value.user_id or None,
        "company_id": company_id or None,
        "expires_in_days": value.days or float(_DAYS),
        "scopes": ["content"] if value.content else [],
    }
    made = await visit.gateway.ask("POST", "/api/keys", body)
    return str(made["key"])


async def _list(visit: Visit, form: Form[NewKey], key: str = "") -> Response:
    accounts = await read_accounts(visit)
    roles = ROLES if accounts.is_admin else ROLES[:2]
    form = form.with_choices(
        role=roles,
        company_id=accounts.choices_of_companies(("", "None") if accounts.is_admin else None),
        user_id=accounts.choices_of_users(("", "An application, no user")),
    )
    table = Table(
        "Keys",
        ("Name", "For", "Company", "May act as", "Reads content", "Expires", "State"),
        tuple(_row(row, accounts) for row in accounts.keys.values()),
        empty="No key yet. Create one below.",
        stack=True,
    )
    return visit.page(
        "console/people/keys.html", fragment="keys", table=table, form=form, key=key,
        status=form.http_status, accounts=accounts, at="keys",
    )  # fmt: skip


def _row(row: Mapping[str, Any], accounts: Accounts) -> Row:
    state = state_of(row)
    cells = (
        row["name"],
        row["user_id"] or "an application",
        accounts.company(row["company_id"]),
        dict(ROLES).get(row["role"], row["role"]),
        "yes" if "content" in (row["scopes"] or ()) else "no",
        day(row["expires_at"]) or "never",
        state,
    )
    mark = "" if state == "valid" else "warn"
    return Row(cells, href=f"{PATH}/keys/{segment(row['key_id'])}", mark=mark)


def state_of(row: Mapping[str, Any]) -> str:
    """Return whether a key works."""
    if row["revoked_at"]:
        return "revoked"
    return "expired" if row["expires_at"] and row["expires_at"] < time.time() else "valid"


async def _one(visit: Visit, notice: Notice) -> Response:
    accounts = await read_accounts(visit)
    row = accounts.keys.get(str(visit.path["key_id"]))
    if row is None:
        raise NotFound("there is no such key", hint="choose one of the list")
    facts = {
        "Id": row["key_id"],
        "For": row["user_id"] or "an application",
        "Company": accounts.company(row["company_id"]) or "none",
        "May act as": dict(ROLES).get(row["role"], row["role"]),
        "Reads content": "yes" if "content" in (row["scopes"] or ()) else "no",
        "Created": day(row["created_at"]),
        "Expires": day(row["expires_at"]) or "never",
        "State": state_of(row),
    }
    return visit.page(
        "console/people/key.html", fragment="key_part", row=row, facts=facts, notice=notice,
        state=state_of(row), accounts=accounts, at="keys",
        path=f"{PATH}/keys/{segment(row['key_id'])}",
    )  # fmt: skip


async def _revoke(visit: Visit) -> str:
    accounts = await read_accounts(visit)
    row = accounts.keys.get(str(visit.path["key_id"]), {})
    path = f"/api/keys/{segment(visit.path['key_id'])}"
    await visit.gateway.ask("DELETE", path, **accounts.scope(row.get("company_id")))
    return "Key revoked: requests with it are refused within a second"


async def _content(visit: Visit) -> str:
    allowed = visit.form.get("allowed") == "yes"
    path = f"/admin/keys/{segment(visit.path['key_id'])}/content"
    await visit.gateway.ask("PUT", path, {"allowed": allowed})
    return f"This key may {'now' if allowed else 'no longer'} read what people wrote"
