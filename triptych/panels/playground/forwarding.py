"""Feedback on the gateway's answers, sent to it under the ids of its own requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from triptych.config.environment import Secret
from triptych.errors import TierError
from triptych.panels.playground.comparison import Comparison
from triptych.panels.playground.gateway import Gateway
from triptych.panels.playground.votes import Verdict

LONGEST_CHARS = 20_000
Saying = tuple[str, str, Any, str]


def sayings(
    comparison: Comparison,
    verdict: Verdict | None,
    comment: str = "",
    correction: str = "",
    about: int = -1,
) -> Iterator[Saying]:
    """Yield what a vote says about each answer of the gateway: request, kind, value, feedback id.

    A preferred answer beats each other one, told under the request of the better of the two where
    it came through the gateway, so that no pair is sent twice.
    """
    requests = [column.origin.get("request_id", "") for column in comparison.columns]
    texts = [column.text[:LONGEST_CHARS] for column in comparison.columns]
    answered = comparison.answered()
    for index in answered:
        if verdict in ("all", "none") and requests[index]:
            yield requests[index], "thumb", verdict == "all", ""
        if isinstance(verdict, int) and index != verdict:
            request = requests[verdict] or requests[index]
            if request and texts[verdict]:
                value = {"chosen": texts[verdict], "rejected": texts[index]}
                yield request, "preference", value, f"pg_{comparison.comparison_id}_{index}"
    for index in answered:
        if about in (-1, index) and requests[index]:
            if comment.strip():
                yield requests[index], "comment", comment.strip()[:LONGEST_CHARS], ""
            if correction.strip() and about == index:
                yield requests[index], "correction", correction.strip()[:LONGEST_CHARS], ""


async def forward(gateway: Gateway | None, told: list[Saying], key: Secret | None = None) -> str:
    """Send feedback; return in words what became of it, empty where there was none to send."""
    if not told:
        return ""
    if gateway is None:
        return "The gateway is not configured any more, so it was not told."
    try:
        for request_id, kind, value, feedback_id in told:
            await gateway.give_feedback(request_id, kind, value, feedback_id, key)
    except TierError as error:
        return f"The gateway did not take it: {error.message}."
    return "Also stored as feedback."
