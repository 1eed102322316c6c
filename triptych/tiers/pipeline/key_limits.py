"""What a single key may use in a minute: requests and tokens, as an admin limited it.

Tokens are set aside before an upstream is asked (the prompt, and the most the answer may have) and
settled when the answer's own count is known. Counters are this worker's, or Redis's where several
workers share one; a Redis that does not answer stops no request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from triptych.config.gateway import GatewayConfig
from triptych.errors import LimitExceeded
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.rules.accounts import Principal
from triptych.tiers.rules.tokens import expected

logger = logging.getLogger("triptych.gateway")

WINDOW_S = 60
_MOST_KEYS = 100_000
_REDIS_TIMEOUT_S = 1.0


class KeyLimiter:
    """Count what keys with limits use; keys without are not counted."""

    def __init__(self, config: GatewayConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}
        self._reserve_tokens = config.budget_reserve_tokens
        self._redis: Any = None
        if config.redis_url:
            from redis.asyncio import from_url

            self._redis = from_url(config.redis_url, socket_timeout=_REDIS_TIMEOUT_S)
        self._settling: set[asyncio.Task[Any]] = set()

    async def admit(self, principal: Principal) -> None:
        """Count one request of a key.

        Raises: LimitExceeded.
        """
        most = principal.limits.requests_per_minute
        if most is not None:
            total, left_s = await self._add(f"r:{principal.key_id}", 1)
            if total > most:
                raise _exceeded(f"this key may ask {most} times a minute", left_s)

    async def hold(self, principal: Principal, tokens: int) -> None:
        """Set tokens of a key aside.

        Raises: LimitExceeded.
        """
        most = principal.limits.tokens_per_minute
        if most is None:
            return
        total, left_s = await self._add(f"t:{principal.key_id}", tokens)
        if total > most:
            await self._add(f"t:{principal.key_id}", -tokens)
            raise _exceeded(
                f"this key may use {most} tokens a minute; {total - tokens} are used or set aside, "
                f"this request may need {tokens}",
                left_s,
            )

    async def hold_for(self, exchange: Exchange) -> None:
        """Set aside what a request may use of its key's tokens, until its record is written.

        Raises: LimitExceeded.
        """
        principal = exchange.principal
        if principal.limits.tokens_per_minute is None:
            return
        usage = expected(exchange.query, self._reserve_tokens)
        held = usage.input_tokens + usage.output_tokens
        await self.hold(principal, held)
        exchange.settle_tokens = lambda used: self.settle(principal, held, used)

    def settle(self, principal: Principal, held: int, used: int) -> None:
        """Put what was used in the place of what was set aside."""
        if held == used:
            return
        task = asyncio.ensure_future(self._add(f"t:{principal.key_id}", used - held))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _add(self, name: str, amount: int) -> tuple[int, float]:
        """Return the count of this minute, with an amount added, and the seconds it has left."""
        if self._redis is not None:
            from redis.exceptions import RedisError

            minute = int(time.time() // WINDOW_S)
            key = f"triptych:limit:{name}:{minute}"
            try:
                async with self._redis.pipeline() as pipe:
                    found = await pipe.incrby(key, amount).expire(key, 2 * WINDOW_S).execute()
            except (RedisError, OSError) as error:
                logger.warning("a key's limit is counted per worker: %s", type(error).__name__)
            else:
                return int(found[0]), (minute + 1) * WINDOW_S - time.time()
        now = self._clock()
        began, count = self._counts.get(name, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        if len(self._counts) >= _MOST_KEYS and name not in self._counts:
            self._counts.clear()
        self._counts[name] = began, max(0, count + amount)
        return self._counts[name][1], WINDOW_S - (now - began)

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()


def _exceeded(message: str, left_s: float) -> LimitExceeded:
    return LimitExceeded(
        message, hint="wait for the time in retry-after", code="key_limit", retry_after_s=left_s
    )
