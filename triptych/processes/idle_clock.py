"""Limit how long each of many waits may take, with one timer for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class IdleClock:
    """Bound each of many waits, one after the other; between two waits no time counts.

    `asyncio.timeout` arms and cancels a timer of the loop for each wait, which a stream pays for
    each of its tokens. Here a wait writes down when it began, and one timer looks at that: it
    fires at most once per limit, and a wait ends between its limit and a moment after it.

    ::

        with IdleClock(60) as idle:
            frame = await idle.wait(anext(frames))   # TimeoutError after 60 s of silence
    """

    __slots__ = ("_fired", "_handle", "_limit_s", "_since_s", "_task")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since_s: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._fired = False

    def __enter__(self) -> Self:
        self._handle = asyncio.get_running_loop().call_later(self._limit_s, self._check)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.cancel()

    def _check(self) -> None:
        since_s, now_s = self._since_s, time.monotonic()
        left_s = self._limit_s if since_s is None else since_s + self._limit_s - now_s
        if self._task is not None and left_s <= 0:
            self._fired = True
            self._task.cancel()
            return
        self._handle = asyncio.get_running_loop().call_later(max(left_s, 0.001), self._check)

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Wait for something.

        Raises: TimeoutError when it took longer than the limit.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an IdleClock waits inside a task")
        cancelling = task.cancelling()
        self._task, self._since_s = task, time.monotonic()
        try:
            return await awaitable
        except asyncio.CancelledError as error:
            # As in asyncio.Timeout: a cancellation from outside at the same moment goes first.
            if self._fired and task.uncancel() <= cancelling:
                raise TimeoutError from error
            raise
        finally:
            self._task = self._since_s = None
