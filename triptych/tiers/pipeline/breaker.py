"""The circuit breaker: an upstream that keeps failing is left alone, then probed once.

States: closed -> open after `failures` in a row -> half-open after `open_s`, where exactly one
caller may try -> closed or open again. An upstream that names a time (rate limit, quota) is
held open until then. A stream that began gives its permission back and closes the breaker only
when it is whole: one that always breaks off later never does. State is per worker process; what
other workers found out comes by `heed` (`breaker_news`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_LONGEST_HOLD_S = 86_400.0

State = Literal["closed", "open", "half_open"]
News = Literal["failing", "held", "closed"]


@dataclass(slots=True)
class Breaker:
    """Decide whether one upstream may be asked."""

    failures: int = 5
    open_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    on_open: Callable[[News, float], None] | None = None
    """Called with why it opened by what this worker saw, and for how many seconds."""
    _failed: int = 0
    _open_until_s: float = 0.0
    _probing: bool = False
    _tripped: bool = False

    @property
    def state(self) -> State:
        """Name the state of this moment."""
        if not self._tripped:
            return "closed"
        return "open" if self.clock() < self._open_until_s else "half_open"

    def retry_after_s(self) -> float:
        """Return how long it stays open."""
        return max(0.0, self._open_until_s - self.clock()) if self._tripped else 0.0

    def allows(self) -> bool:
        """Take a permission to ask; in half-open only one caller gets it."""
        if not self._tripped:
            return True
        if self.clock() < self._open_until_s or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Close."""
        self._failed = 0
        self._tripped = self._probing = False

    def failed(self) -> None:
        """Count a failure, and open when there were enough or the probe failed."""
        probed = self._tripped and self.clock() >= self._open_until_s
        self._failed += 1
        if self._probing or probed or self._failed >= self.failures:
            self._open(self.open_s, "failing")

    def hold(self, seconds: float) -> None:
        """Stay open for a stated time, of a day at most: a rate limit or a quota."""
        stated = min(seconds, _LONGEST_HOLD_S) if math.isfinite(seconds) else self.open_s
        self._open(stated, "held")

    def released(self) -> None:
        """Return the permission without a verdict: the caller went away or was at fault."""
        self._probing = False

    def heed(self, news: News, seconds: float) -> None:
        """Follow what another worker found: hold as long, probe once, or close."""
        if news == "closed":
            self.succeeded()
        elif news == "held" and seconds > 0:
            self._trip(min(seconds, _LONGEST_HOLD_S))
        elif news == "failing" and not self._tripped:
            self._trip(0.0)

    def reset(self) -> None:
        """Close by hand."""
        self.succeeded()

    def _open(self, seconds: float, news: News) -> None:
        self._trip(seconds)
        if self.on_open is not None:
            self.on_open(news, seconds)

    def _trip(self, seconds: float) -> None:
        self._probing = False
        self._tripped = True
        self._failed = 0
        self._open_until_s = max(self._open_until_s, self.clock() + seconds)
