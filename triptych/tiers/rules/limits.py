"""Rate limits: how many requests a key, a user or an address may make per window.

Counters live in memory, or in Redis where several workers share them. A Redis that does not answer
stops no request: each worker counts for itself until it is back.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from triptych.config.gateway import GatewayConfig
from triptych.errors import LimitExceeded
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.connections import place_of

logger = logging.getLogger("triptych.gateway")

_REDIS_TIMEOUT_S = 1.0
_REDIS_CONNECTIONS = 8  # a burst waits for one of these; a connection per request would time out
_REST_S = 5.0


class Limiter:
    """Count requests per subject and refuse the one too many."""

    def __init__(self, config: GatewayConfig) -> None:
        self._own = Windows(window_s=config.limit_window_s)
        self._shared = _shared(config.redis_url) if config.redis_url else None
        self._rests_until_s = 0.0
        window = config.limit_window_s
        self._items = {
            "service": RateLimitItemPerSecond(config.limit_service, window),
            "user": RateLimitItemPerSecond(config.limit_user, window),
            "anonymous": RateLimitItemPerSecond(config.limit_anonymous, window),
        }

    async def hit(self, principal: Principal, address: str) -> None:
        """Count one request.

        Raises: LimitExceeded with the seconds until the window ends.
        """
        item, subject = self._items[principal.kind], _subject(principal, address)
        if self._shared is not None and time.monotonic() >= self._rests_until_s:
            try:
                await _hit(self._shared, item, principal.kind, subject)
            except StorageError as error:
                logger.warning("limits are counted per worker: %s", type(error).__name__)
                self._rests_until_s = time.monotonic() + _REST_S
            else:
                return
        wait_s = self._own.hit(f"{principal.kind}/{subject}", item.amount)
        if wait_s is not None:
            raise _too_many(item, wait_s)


class Windows:
    """Count per subject in windows of the steady clock, which no change of the date moves."""

    _MANY = 50_000

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._counts: dict[str, tuple[int, float]] = {}

    def hit(self, subject: str, most: int) -> float | None:
        """Count one; past `most` return the seconds until the window ends."""
        now = time.monotonic()
        count, ends_s = self._counts.get(subject, (0, 0.0))
        if now >= ends_s:
            count, ends_s = 0, now + self._window_s
        if count >= most:
            return ends_s - now
        if len(self._counts) >= self._MANY:
            self._counts = {s: c for s, c in self._counts.items() if c[1] > now}
            if len(self._counts) >= self._MANY:  # a flood of subjects: the oldest are forgotten
                self._counts = dict(list(self._counts.items())[self._MANY // 2 :])
        self._counts[subject] = (count + 1, ends_s)
        return None


class WrongKeys:
    """Slow callers that send wrong keys, by address, and note them for the audit.

    A right key of the same address is never refused for the wrong ones beside it.
    """

    _NOTED_ADDRESSES = 20

    def __init__(self, config: GatewayConfig) -> None:
        self._most = config.limit_wrong_keys
        self._windows = Windows(window_s=60.0)
        self._noted: dict[str, int] = {}
        self._others = 0
        self.total = 0
        """Wrong keys so far."""

    def hit(self, address: str) -> None:
        """Count one wrong key.

        Raises: LimitExceeded past `gateway.limit_wrong_keys` in a minute.
        """
        self.total += 1
        place = place_of(address)
        wait_s = self._windows.hit(place, self._most)
        if wait_s is None:
            return
        if place not in self._noted:
            if len(self._noted) >= self._NOTED_ADDRESSES:
                place = ""
            else:
                logger.warning("many wrong keys from %s: they are refused for a while", place)
        if place:
            self._noted[place] = self._noted.get(place, 0) + 1
        else:
            self._others += 1
        raise LimitExceeded(
            "too many wrong keys from this address",
            hint="check the key; wait for the time in retry-after",
            code="too_many_wrong_keys",
            retry_after_s=max(1.0, wait_s),
        )

    def take_notes(self) -> dict[str, int]:
        """Return the refused attempts by address since the last call."""
        noted, self._noted = self._noted, {}
        if self._others:
            noted["others"], self._others = self._others, 0
        return noted


def _subject(principal: Principal, address: str) -> str:
    if principal.anonymous:
        return address
    if principal.kind == "service":
        return principal.key_id
    return principal.user_id or principal.key_id


def _shared(url: str) -> FixedWindowRateLimiter:
    # Most gateways count in memory; the client is a sixth of what a start loads.
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_REDIS_CONNECTIONS,
        timeout=_REDIS_TIMEOUT_S * _REDIS_CONNECTIONS,
        socket_timeout=_REDIS_TIMEOUT_S,
        socket_connect_timeout=_REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),  # one slow answer of a busy moment says nothing
    )
    storage: Any = storage_from_string(
        f"async+{url}", implementation="redispy", wrap_exceptions=True, connection_pool=pool
    )
    return FixedWindowRateLimiter(storage)


async def _hit(
    strategy: FixedWindowRateLimiter, item: RateLimitItemPerSecond, kind: str, subject: str
) -> None:
    if await strategy.hit(item, kind, subject):
        return
    stats = await strategy.get_window_stats(item, kind, subject)
    # The storage adds the time that is left in Redis to this same clock.
    raise _too_many(item, stats.reset_time - time.time())


def _too_many(item: RateLimitItemPerSecond, wait_s: float) -> LimitExceeded:
    return LimitExceeded(
        f"{item.amount} requests per {item.get_expiry()} s are allowed",
        hint="wait for the time in retry-after",
        retry_after_s=min(max(1.0, wait_s), float(item.get_expiry())),
    )
