"""What follows from an attempt that failed, for its upstream's breaker and for the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from triptych.errors import NoProviderAvailable, UpstreamBusy, UpstreamError, UpstreamTimeout
from triptych.tiers.pipeline.breaker import Breaker
from triptych.tiers.rules.selector import Route, Selection


def update_breaker(breaker: Breaker, error: UpstreamError, *, again: bool) -> None:
    """Count a failed attempt, or hold the upstream for as long as it asked."""
    if error.hold_s is not None:
        breaker.hold(error.hold_s)
    elif error.counts:
        breaker.failed()
    elif isinstance(error, UpstreamBusy) and error.retry_after_s and not again:
        breaker.hold(error.retry_after_s)
    else:
        breaker.released()


def stopping(clock: asyncio.Timeout, limit_s: float, deadline_s: float) -> Callable[[bool], None]:
    """Let a provider stop the attempt's clock while a Space wakes; the deadline still holds."""

    def waits(waiting: bool) -> None:
        now = asyncio.get_running_loop().time()
        left_s = deadline_s - time.monotonic()
        clock.reschedule(now + (left_s if waiting else min(limit_s, left_s)))

    return waits


def too_slow(route: Route, limit_s: float, *, stream: bool) -> UpstreamTimeout:
    """Return the error of an attempt that gave nothing in time."""
    return UpstreamTimeout(
        f"{route.upstream.name} gave nothing within {limit_s:.3g} s",
        code="upstream_first_token" if stream else "upstream_answer",
    )


def least(a: float | None, b: float) -> float:
    """Return the smaller one; None is larger than any."""
    return b if a is None else min(a, b)


def none_available(selection: Selection, retry_after_s: float | None) -> NoProviderAvailable:
    """Return the error where no upstream of a selection could be asked."""
    if not selection.routes:
        return NoProviderAvailable(f"no upstream answers for the tier {selection.tier}")
    names = ", ".join(dict.fromkeys(route.upstream.name for route in selection.routes))
    return NoProviderAvailable(
        f"no upstream can answer for {selection.tier} now: {names} failed and are on hold",
        hint="`triptych gateway probe` tests each of them",
        retry_after_s=retry_after_s,
        retryable=True,
    )
