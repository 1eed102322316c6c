"""The queue in which answers wait: so many at a time, so many for one visitor, first come first.

Everything here belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from triptych.config.panels import PanelsConfig
from triptych.lm.serve.service import TooBusy

#: How many answers one visitor may have waiting, for each one they may have written.
PATIENCE = 4


class Ticket:
    """A place in the queue; use as a context manager."""

    def __init__(self, queue: AnswerQueue, visitor: str) -> None:
        self.visitor = visitor
        self.called = asyncio.Event()
        self._queue = queue

    @property
    def ahead(self) -> int:
        """Count the answers that come before this one."""
        return self._queue.ahead(self)

    async def is_called(self, within_s: float) -> bool:
        """Wait a moment; tell whether it is this one's turn."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.called.wait(), within_s)
        return self.called.is_set()

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.leave(self)


class AnswerQueue:
    """Starts answers in the order of their requests; each visitor has a limited share."""

    def __init__(self, config: PanelsConfig) -> None:
        self._places = config.generations
        self._per_visitor = config.generations_per_visitor
        self._longest = config.waiting
        self._waiting: list[Ticket] = []
        self._inside: Counter[str] = Counter()

    def join(self, visitor: str) -> Ticket:
        """Join the end of the queue.

        Raises: TooBusy where the queue, or the visitor's part of it, is full.
        """
        mine = sum(ticket.visitor == visitor for ticket in self._waiting)
        if mine >= PATIENCE * self._per_visitor:
            raise TooBusy(f"{mine} of your answers are waiting already", retry_after_s=5)
        if len(self._waiting) > self._longest:
            raise TooBusy(f"{len(self._waiting)} answers are waiting already", retry_after_s=10)
        ticket = Ticket(self, visitor)
        self._waiting.append(ticket)
        self._advance()
        return ticket

    def ahead(self, ticket: Ticket) -> int:
        """Count who comes before a ticket."""
        return self._waiting.index(ticket) if ticket in self._waiting else 0

    def leave(self, ticket: Ticket) -> None:
        """Free a place, while waiting or while being answered."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif self._inside[ticket.visitor]:
            self._inside[ticket.visitor] -= 1
            if not self._inside[ticket.visitor]:
                del self._inside[ticket.visitor]
        self._advance()

    def _advance(self) -> None:
        for ticket in list(self._waiting):
            if self._inside.total() >= self._places:
                return
            if self._inside[ticket.visitor] < self._per_visitor:
                self._waiting.remove(ticket)
                self._inside[ticket.visitor] += 1
                ticket.called.set()
