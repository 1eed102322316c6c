"""The route over the copies of questions that challengers were sent."""

from __future__ import annotations

from typing import Any

from triptych.errors import InvalidQuery
from triptych.tiers.admin.feedback import seconds
from triptych.tiers.admin.routing import RouteCall, Routes
from triptych.wire.tiers import TIERS

routes = Routes()


@routes.add("GET", "/admin/shadows", "admin", query=("tier", "since", "limit"))
async def list_shadows(call: RouteCall) -> Any:
    """List the copies that a tier's challengers were sent, newest first; no text is kept."""
    tier = call.query.get("tier", TIERS[0])
    if tier not in TIERS:
        raise InvalidQuery(f"tier is one of {', '.join(TIERS)}", param="tier")
    copies = call.runtime.shadows
    rows = await copies.listed(
        tier, seconds(call, "since") or 0.0, call.number("limit", 500, 1, 5000)
    )
    return {"shadows": rows, "not_copied": copies.not_copied}
