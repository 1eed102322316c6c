"""Rate limits: how many requests a key, a user or an address may make per window.

Counters live in memory, or in Redis where several workers share them. A Redis that does not answer
stops no request: each worker counts for itself until it is back.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from triptych.config.gateway import GatewayConfig
from triptych.errors import LimitExceeded
from triptych.tiers.rules.accounts import Principal

logger = logging.getLogger("triptych.gateway")

_REDIS_TIMEOUT_S = 1.0
_REDIS_CONNECTIONS = 8  # a burst waits for one of these; a connection per request would time out
_REST_S = 5.0


class Limiter:
    """Count requests per subject and refuse the one too many."""

    def __init__(self, config: GatewayConfig) -> None:
        self._own = FixedWindowRateLimiter(MemoryStorage())
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
        await _hit(self._own, item, principal.kind, subject)


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
    raise LimitExceeded(
        f"{item.amount} requests per {item.get_expiry()} s are allowed",
        hint="wait for the time in retry-after",
        retry_after_s=max(1.0, stats.reset_time - time.time()),
    )
