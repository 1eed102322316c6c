"""A background task of an event loop that no exception ends: it is started again, and says so.

A task that dies of an exception that it did not foresee is silent: nothing awaits it. This one
writes the exception to the log, waits, and starts again; how it is doing can be read from it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 60.0


class BackgroundTask:
    """Run a coroutine function without end, again after each exception.

    Units: seconds for the pauses; a run of `_HEALTHY_S` makes the next pause the first one again.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        logger: logging.Logger,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self.name = name
        self.failures = 0
        """How often it failed since it was started."""
        self.failing = ""
        """The exception it waits after or has not recovered from; empty while all is well."""
        self._work = work
        self._logger = logger
        self._first_pause_s = self._pause_s = first_pause_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        self._task = asyncio.create_task(self._keep(), name=self.name)

    def succeeded(self) -> None:
        """Note that a step of the work succeeded: it has recovered."""
        if self.failing:
            self._logger.warning("background task %s works again", self.name)
        self.failing = ""
        self._pause_s = self._first_pause_s

    async def stop(self) -> None:
        """Cancel it and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _keep(self) -> None:
        while True:
            began = time.monotonic()
            run = asyncio.ensure_future(self._work())
            try:
                # `wait` raises nothing of what it waits for, so that no exception is left out
                await asyncio.wait({run})
            finally:
                run.cancel()
                await asyncio.gather(run, return_exceptions=True)
            error = None if run.cancelled() else run.exception()
            if error is None:
                return
            self.failures += 1
            self.failing = f"{type(error).__name__}: {error}"[:200]
            if time.monotonic() - began >= _HEALTHY_S:
                self._pause_s = self._first_pause_s
            self._logger.error(
                "background task %s failed and starts again in %.1f s",
                self.name, self._pause_s, exc_info=error,
            )  # fmt: skip
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
