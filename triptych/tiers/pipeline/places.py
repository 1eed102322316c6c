"""Places at an upstream: how many exchanges go on at once, and a queue for the rest.

Waiting for a place is the gateway's own congestion. It has its own time and its own error, and
neither the upstream's timeouts nor its breaker know of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from triptych.errors import UpstreamFull
from triptych.tiers.providers.base import Frame

#: Requests that may wait, for each place there is.
_WAITING_PER_PLACE = 8


class Place:
    """One exchange with an upstream; releasing it twice is releasing it once."""

    __slots__ = ("_places",)

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places

    def release(self) -> None:
        """Leave the place to the next."""
        if self._places is not None:
            self._places.free.release()
            self._places = None


class Places:
    """Count the exchanges with one upstream."""

    def __init__(self, name: str, most: int, wait_s: float) -> None:
        self.free = asyncio.Semaphore(most)
        self.waiting = 0
        """Requests that wait now."""
        self._name = name
        self._most = most
        self._wait_s = wait_s

    async def take(self, left_s: float) -> Place:
        """Return a place, at once or when one gets free.

        Raises: UpstreamFull after the queue's time, or `left_s` where that is less.
        """
        if not self.free.locked():
            await self.free.acquire()
            return Place(self)
        if self.waiting >= self._most * _WAITING_PER_PLACE:
            raise self._full()
        self.waiting += 1
        try:
            async with asyncio.timeout(max(0.0, min(self._wait_s, left_s))):
                await self.free.acquire()
        except TimeoutError as error:
            raise self._full() from error
        finally:
            self.waiting -= 1
        return Place(self)

    def _full(self) -> UpstreamFull:
        return UpstreamFull(
            f"all {self._most} places at {self._name} are taken",
            hint="ask again later; an operator may raise `max_connections` of this upstream",
            retry_after_s=1.0,
        )


async def in_place(frames: AsyncGenerator[Frame], place: Place) -> AsyncGenerator[Frame]:
    """Yield a stream's frames; its place is free when it ends or is closed."""
    try:
        async for frame in frames:
            yield frame
    finally:
        await frames.aclose()
        place.release()
