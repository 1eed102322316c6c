"""Times as the Console's tables show them, in the server's time zone."""

from __future__ import annotations

import time


def when(at: float | None) -> str:
    """Return the time of today, or date and time; empty for none."""
    if not at:
        return ""
    today = time.strftime("%F") == time.strftime("%F", time.localtime(at))
    return time.strftime("%H:%M:%S" if today else "%F %H:%M", time.localtime(at))


def day(at: float | None) -> str:
    """Return the day; empty for none."""
    return time.strftime("%F", time.localtime(at)) if at else ""
