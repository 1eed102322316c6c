"""Work that goes on when its page is closed: its steps, and how it ended.

A page shows it with `parts.work(work, url)`, which reads the page again until the work has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from triptych.errors import TriptychError

Heard = Callable[[str], None]


@dataclass
class Work:
    """One piece of work at a time; `result` says what it did."""

    steps: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    error: TriptychError | None = None
    result: str = ""

    @property
    def running(self) -> bool:
        """Return whether it is on its way."""
        return self.task is not None and not self.task.done()

    @property
    def step(self) -> str:
        """Return its last step."""
        return self.steps[-1] if self.steps else "Starting"

    def start(self, act: Callable[[Heard], Awaitable[str]]) -> None:
        """Begin; `act` is called with a function for its steps, which any thread may call."""
        self.steps, self.error, self.result = [], None, ""
        self.task = asyncio.create_task(self._carry_out(act))

    async def _carry_out(self, act: Callable[[Heard], Awaitable[str]]) -> None:
        try:
            self.result = await act(self.steps.append)
        except TriptychError as error:
            self.error = error
