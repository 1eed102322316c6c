"""Kept answers of `/v1/responses`: read again, listed with what was asked, deleted."""

from __future__ import annotations

from typing import Any

from triptych.tiers.admin.routing import RouteCall, Routes
from triptych.tiers.store.personal_data import responses

routes = Routes()


def _owner(call: RouteCall) -> responses.Owner:
    user = call.headers.get("x-triptych-user", "")[:64]
    company_id = call.headers.get("x-triptych-company", "")[:64]
    return responses.owner_of(call.principal, user or None, company_id or None)


@routes.add("GET", "/v1/responses/{response_id}", "user")
async def read(call: RouteCall) -> Any:
    """Return a kept answer."""
    row = await responses.one(call.runtime.database, _owner(call), call.path["response_id"])
    return row["body"]


@routes.add("GET", "/v1/responses/{response_id}/input_items", "user")
async def asked(call: RouteCall) -> Any:
    """List what was asked with a kept answer."""
    row = await responses.one(call.runtime.database, _owner(call), call.path["response_id"])
    items = row["input"]
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
    return {"object": "list", "data": items[::-1], "has_more": False, **ends}


@routes.add("DELETE", "/v1/responses/{response_id}", "user")
async def remove(call: RouteCall) -> Any:
    """Delete a kept answer."""
    response_id = call.path["response_id"]
    await responses.remove(call.runtime.database, _owner(call), response_id)
    return {"id": response_id, "object": "response", "deleted": True}
