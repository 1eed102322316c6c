"""Routes over the record: pages of requests, one as a waterfall, sums over time, the audit."""

from __future__ import annotations

import time
from typing import Any

from triptych.errors import InvalidQuery
from triptych.tiers.admin.feedback import seconds
from triptych.tiers.admin.routing import RouteCall, Routes
from triptych.tiers.rules.redaction import pseudonym
from triptych.tiers.store import audit, interactions
from triptych.tiers.store import usage as sums
from triptych.tiers.store.database import across

routes = Routes()
_HOUR_S = 3600.0


@routes.add(
    "GET",
    "/api/requests",
    "company_admin",
    query=(*interactions.FILTERS, "since", "until", "after", "limit"),
)
async def list_requests(call: RouteCall) -> Any:
    """List requests, newest first; `next` is the `after` of the following page."""
    filters = {k: v for k, v in call.query.items() if k in interactions.FILTERS}
    if "conversation_id" in filters:
        filters["conversation_id"] = pseudonym(filters["conversation_id"]) or ""
    limit = call.number("limit", 50, 1, 500)
    rows = await interactions.page(
        call.runtime.database,
        call.scope(),
        filters=filters,
        since=seconds(call, "since"),
        until=seconds(call, "until"),
        after=_cursor(call.query.get("after")),
        limit=limit,
    )
    last = rows[-1] if len(rows) == limit else None
    return {
        "requests": rows,
        "next": f"{last['created_at']!r}:{last['request_id']}" if last else None,
    }


def _cursor(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    when, colon, request_id = text.partition(":")
    try:
        return (float(when), request_id[:64]) if colon else _no_cursor()
    except ValueError:
        return _no_cursor()


def _no_cursor() -> Any:
    raise InvalidQuery("after is not the `next` of a page", param="after")


@routes.add("GET", "/api/requests/{request_id}", "company_admin", query=("company_id",))
async def show_request(call: RouteCall) -> Any:
    """Show one request with its attempts."""
    return await interactions.one(call.runtime.database, call.scope(), call.path["request_id"][:64])


@routes.add(
    "GET",
    "/api/usage",
    "company_admin",
    query=("company_id", "since", "until", "group_by", "bucket_s"),
)
async def usage(call: RouteCall) -> Any:
    """Sum requests, failures, tokens, cost and time, by the minute or the hour."""
    names = tuple(filter(None, call.query.get("group_by", "").split(",")))
    if not set(names) <= set(sums.GROUPS):
        raise InvalidQuery(f"group_by is one of {', '.join(sums.GROUPS)}", param="group_by")
    until = seconds(call, "until") or time.time()
    since = seconds(call, "since") or until - _HOUR_S
    bucket = call.number("bucket_s", 0, 0, 31_536_000)
    if bucket % sums.SPANS_S[0]:
        raise InvalidQuery("bucket_s must be of whole minutes", param="bucket_s")
    if bucket and (until - since) / bucket > 2000:
        raise InvalidQuery("more than 2000 buckets", param="bucket_s", hint="choose larger ones")
    rows = await sums.summary(
        call.runtime.database,
        call.scope(),
        since=since,
        until=until,
        group_by=names,
        bucket_s=bucket or None,
    )
    span_s = sums.span_of(since, until, bucket or None)
    return {"since": since // span_s * span_s, "until": until, "rows": rows}


@routes.add("GET", "/admin/audit", "admin", query=("subject", "before", "limit", "company_id"))
async def list_audit(call: RouteCall) -> Any:
    """List who did what, newest first."""
    rows = await audit.entries(
        call.runtime.database,
        across("the audit is one for everybody"),
        subject=call.query.get("subject"),
        before=call.number("before", 2**62, 0, 2**62) if "before" in call.query else None,
        limit=call.number("limit", 50, 1, 500),
    )
    return {"entries": rows}


@routes.add("POST", "/admin/audit/verify", "admin")
async def verify_audit(call: RouteCall) -> Any:
    """Walk the whole audit chain and say whether it is sound."""
    home, database = call.runtime.home, call.runtime.database
    found = await audit.verified(database, home)
    if found.broken_at is None:
        await audit.anchor(database, home)
    return {
        "sound_entries": found.sound,
        "broken_at": found.broken_at,
        "entries_of_other_keys": found.other_keys,
        "last": {"sequence": found.last[0], "hash": found.last[1]},
    }
