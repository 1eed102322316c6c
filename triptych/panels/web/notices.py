"""One line that says what an act did, or why it was not done: `parts.notice(notice)` draws it.

It stands beside what changed. Left out: errors of a form's fields (`forms`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from triptych.errors import TriptychError


@dataclass(frozen=True)
class Notice:
    """What was done; with `bad`, what was not done and what to do next."""

    text: str = ""
    hint: str = ""
    bad: bool = False

    @classmethod
    def of(cls, error: TriptychError) -> Notice:
        """Return an error as a notice."""
        return cls(error.message, error.hint or "", bad=True)


async def attempt(act: Awaitable[str]) -> Notice:
    """Return what an act did in its own words, or its error."""
    try:
        return Notice(await act)
    except TriptychError as error:
        return Notice.of(error)
