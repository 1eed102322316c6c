"""What a spent GPU quota sounds like, and when it is filled again.

Source: ZeroGPU answers "exceeded your GPU quota (60s requested vs. 42s left) ... retry in 0:06:53".
"""

from __future__ import annotations

import re

from triptych.errors import UpstreamBusy

_LONGEST_S = 86_400.0
_QUOTA = re.compile(
    r"(?:exceeded|reached).{0,40}?gpu quota.*?(?:retry|try again) in (\d{1,6}):(\d\d):(\d\d)",
    re.IGNORECASE | re.DOTALL,
)
_QUOTA_WORDS = re.compile(r"gpu quota|quota exceeded", re.IGNORECASE)


def quota_wait_s(text: str) -> float | None:
    """Read when a quota text allows the next call; None when it is no quota text."""
    if found := _QUOTA.search(text):
        hours, minutes, seconds = (int(part) for part in found.groups())
        return min(hours * 3600.0 + minutes * 60.0 + seconds, _LONGEST_S)
    return 3600.0 if _QUOTA_WORDS.search(text) else None


def quota_error(name: str, wait_s: float) -> UpstreamBusy:
    """Describe a spent quota; the breaker stays open until it is filled again."""
    return UpstreamBusy(
        f"the GPU quota of {name} is spent",
        hint="it is filled again at the time in retry-after",
        code="space_quota",
        retryable=False,
        retry_after_s=wait_s,
    )
