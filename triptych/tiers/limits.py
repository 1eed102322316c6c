"""Rate limits: how many requests a key, a user or an address may make per window.

Counters live in memory, or in Redis where several workers share them.
"""

from __future__ import annotations

import time
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.storage import storage_from_string

from triptych.config.gateway import GatewayConfig
from triptych.errors import LimitExceeded
from triptych.tiers.accounts import Principal


class Limiter:
    """Count requests per subject and refuse the one too many."""

    def __init__(self, config: GatewayConfig) -> None:
        storage: Storage | Any = MemoryStorage()
        if config.redis_url:
            storage = storage_from_string(f"async+{config.redis_url}")
        self._strategy = FixedWindowRateLimiter(storage)
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
        item = self._items[principal.kind]
        subject = address if principal.anonymous else principal.user_id or principal.key_id
        if principal.kind == "service":
            subject = principal.key_id
        if await self._strategy.hit(item, principal.kind, subject):
            return
        stats = await self._strategy.get_window_stats(item, principal.kind, subject)
        raise LimitExceeded(
            f"{item.amount} requests per {item.get_expiry()} s are allowed",
            hint="wait for the time in retry-after",
            retry_after_s=max(1.0, stats.reset_time - time.time()),
        )
