"""The numbers of a request and their allowed ranges: one table for gateway and model server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field


@dataclass(frozen=True, slots=True)
class Range:
    """The allowed values of a number: whole or not, from `low` to `high`.

    With `above`, `low` itself is not allowed.
    """

    low: float
    high: float
    whole: bool = False
    above: bool = False

    def accepts(self, value: object) -> bool:
        """Return whether a JSON value is a number of this range."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        number: float = value
        return (self.low < number if self.above else self.low <= number) and number <= self.high

    def field(self) -> Any:
        """Return pydantic's constraint for this range."""
        if self.above:
            return Field(gt=self.low, le=self.high)
        return Field(ge=self.low, le=self.high)

    def __str__(self) -> str:
        if self.above:
            return in_words(above=self.low, high=self.high)
        return in_words(low=self.low, high=self.high)


RANGES: Mapping[str, Range] = {
    "temperature": Range(0, 2),
    "top_p": Range(0, 1),
    "top_k": Range(0, 1_000_000, whole=True),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(0, 10, above=True),
    "presence_penalty": Range(-2, 2),
    "frequency_penalty": Range(-2, 2),
    "n": Range(1, 16, whole=True),
    "max_tokens": Range(1, 1_000_000, whole=True),
    "max_completion_tokens": Range(1, 1_000_000, whole=True),
    "top_logprobs": Range(0, 20, whole=True),
    "seed": Range(-(2**63), 2**63 - 1, whole=True),
}
"""Field -> range."""


def in_words(
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    """Return limits as words, such as "between 0 and 2"; empty when there are none."""
    if low is not None and high is not None:
        return _number(low) if low == high else f"between {_number(low)} and {_number(high)}"
    limits = (("at least", low), ("above", above), ("at most", high), ("below", below))
    return " and ".join(f"{words} {_number(limit)}" for words, limit in limits if limit is not None)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
