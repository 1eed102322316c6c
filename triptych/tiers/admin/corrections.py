"""Let a reviewer's correction answer like questions at once, where the tier has a source for it.

Only an admin's or a company admin's correction acts: what any user writes is data for training,
never an answer to others. The question is known where its content was kept, which needed consent.
"""

from __future__ import annotations

import time

from sqlalchemy import select

from triptych.tiers.pipeline.runtime import Runtime
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.redaction import redact
from triptych.tiers.store import tables as t
from triptych.tiers.store.database import across
from triptych.tiers.store.feedback import Feedback
from triptych.wire.evidence import CorrectableSource
from triptych.wire.tiers import TIERS

_REVIEWERS = ("company_admin", "admin")
_SCOPE = across("a reviewer's correction names the request that it is about")


async def act(runtime: Runtime, feedback: Feedback, feedback_id: str, reviewer: Principal) -> bool:
    """Hand a stored correction to the company's documents; return whether it answers now."""
    if feedback.kind != "correction" or reviewer.role not in _REVIEWERS:
        return False
    source: object = runtime.sources.get(TIERS[1])
    if not feedback.request_id or not isinstance(source, CorrectableSource):
        return False
    c = t.contents.c
    async with runtime.database.read(_SCOPE) as connection:
        row = await connection.first(
            select(c.messages, c.company_id, c.user_id).where(c.request_id == feedback.request_id)
        )
    if row is None or row["company_id"] is None:
        return False
    asked = [one for one in row["messages"] if one.get("role") == "user"]
    if not asked or not isinstance(asked[-1].get("content"), str):
        return False
    return await source.correct(
        row["company_id"], feedback_id, asked[-1]["content"], redact(str(feedback.value)),
        asker=row["user_id"], at=time.time(),
    )  # fmt: skip
