"""What may not leave the gateway: a hook over every answer, whole or streamed.

The filter that comes with it matches patterns of the configuration; a program may hand in its
own. A block is on record without the text that caused it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from triptych.errors import ConfigError, OutputBlocked

#: How much of what was already said a streamed piece is looked at together with.
_TAIL_CHARACTERS = 256


class OutputFilter(Protocol):
    """Decide about a text."""

    def refuses(self, text: str) -> str:
        """Return the name of the rule that refuses the text, or nothing."""
        ...


class PatternFilter:
    """Refuse texts that match any of the patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        try:
            self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        except re.error as error:
            raise ConfigError(f"gateway.blocked_patterns: {error}") from error

    def refuses(self, text: str) -> str:
        """Return `pattern N` of the first pattern that matches."""
        for number, pattern in enumerate(self._patterns, start=1):
            if pattern.search(text):
                return f"pattern {number}"
        return ""


def check(text: str, output_filter: OutputFilter) -> None:
    """Let a whole text through or not.

    Raises: OutputBlocked, which does not quote it.
    """
    if rule := output_filter.refuses(text):
        raise OutputBlocked(f"the answer was withheld by the output filter ({rule})")


class StreamCheck:
    """Look at a stream's pieces together with what came just before."""

    def __init__(self, output_filter: OutputFilter) -> None:
        self._filter = output_filter
        self._tail = ""

    def take(self, piece: str) -> None:
        """Let one piece through or not.

        Raises: OutputBlocked.
        """
        text = self._tail + piece
        check(text, self._filter)
        self._tail = text[-_TAIL_CHARACTERS:]
