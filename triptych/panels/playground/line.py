"""The line in which answers wait: so many at a time, so many for one visitor, first come first.

Everything here belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from triptych.config.panels import PanelsConfig
from triptych.lm.serve.service import TooBusy

#: How many answers one visitor may have in line, for each one they may have written.
PATIENCE = 4


class Ticket:
    """A place in the line; use as a context manager."""

    def __init__(self, line: Line, visitor: str) -> None:
        self.visitor = visitor
        self.called = asyncio.Event()
        self._line = line

    @property
    def ahead(self) -> int:
        """Count the answers that come before this one."""
        return self._line.ahead(self)

    async def is_called(self, within_s: float) -> bool:
        """Wait a moment; tell whether it is this one's turn."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.called.wait(), within_s)
        return self.called.is_set()

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.leave(self)


class Line:
    """Let visitors in, in order; nobody takes more places than their share."""

    def __init__(self, config: PanelsConfig) -> None:
        self._places = config.generations
        self._per_visitor = config.generations_per_visitor
        self._longest = config.waiting
        self._waiting: list[Ticket] = []
        self._inside: Counter[str] = Counter()

    def join(self, visitor: str) -> Ticket:
        """Go to the end of the line.

        Raises: TooBusy where the line, or the visitor's part of it, is full.
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
        """Give a place back, inside or in the line."""
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
