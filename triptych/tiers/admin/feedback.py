"""Routes over feedback: give it, change it, look at it, export it for training."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, get_args

import orjson
from pydantic import Field
from starlette.responses import StreamingResponse

from triptych.errors import InvalidQuery, NotFound
from triptych.tiers.admin import corrections
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.rules.consent import granted
from triptych.tiers.store import feedback as store

routes = Routes()
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-~]+$")]
#: How long a feedback waits for the record of its request to arrive in the database.
_PATIENCE_S = 1.5


class NewFeedback(Body):
    """A feedback about a request or a conversation."""

    kind: store.Kind
    value: Any
    request_id: Id | None = None
    conversation_id: Id | None = None
    feedback_id: Id | None = None


@routes.add("POST", "/api/feedback", "user", body=NewFeedback)
async def give(call: RouteCall) -> Any:
    """Store feedback, or change what was stored before; a reviewer's correction answers at once."""
    body: NewFeedback = call.body
    feedback = store.Feedback(
        body.kind, body.value, body.request_id, body.conversation_id, body.feedback_id or ""
    )
    store.check(feedback)
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE_S
    while True:
        try:
            given = await store.give(call.runtime.database, feedback, call.principal)
            if await corrections.act(call.runtime, feedback, given["feedback_id"], call.principal):
                given["answers_now"] = True
            return given
        except NotFound:
            # The answer may have been faster than its record: a worker's own one is brought in
            # now, another worker's within its next batch.
            if loop.time() >= end:
                raise
            await call.runtime.recorder.flush()
            await asyncio.sleep(0.1)


@routes.add(
    "GET", "/api/feedback", "company_admin", query=("company_id", "kind", "before", "limit")
)
async def look(call: RouteCall) -> Any:
    """List feedback, newest first."""
    kind = call.query.get("kind")
    if kind is not None and kind not in get_args(store.Kind):
        raise InvalidQuery(f"kind is one of {', '.join(get_args(store.Kind))}", param="kind")
    rows = await store.listed(
        call.runtime.database,
        call.scope(),
        request_id=call.query.get("request_id"),
        kind=kind,
        before=seconds(call, "before"),
        limit=call.number("limit", 50, 1, 500),
    )
    return {"feedback": rows}


@routes.add("GET", "/api/feedback/export", "company_admin", query=("company_id",))
async def export(call: RouteCall) -> Any:
    """Export training examples as JSON lines, where consent allowed their content to be kept."""
    now = call.runtime.consents
    examples = store.export(
        call.runtime.database,
        call.scope(reason="an admin exports feedback"),
        lambda company_id, user_id: bool(granted(now, company_id, user_id, "improve")),
    )

    async def lines() -> AsyncIterator[bytes]:
        async for example in examples:
            yield orjson.dumps(example) + b"\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


def seconds(call: RouteCall, name: str) -> float | None:
    """Read Unix seconds from the query string.

    Raises: InvalidQuery.
    """
    text = call.query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidQuery(f"{name} must be Unix seconds", param=name) from error
    if not 0 <= value < 1e12:
        raise InvalidQuery(f"{name} must be Unix seconds", param=name)
    return value
