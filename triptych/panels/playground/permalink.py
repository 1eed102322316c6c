"""The address that restores a comparison: `?c=` and one JSON list.

The list is: references, prompt, temperature, top_k, top_p, min_p, repetition_penalty, new tokens,
seed, and, where they differ from their defaults, stop strings, how the prompt is read, blind. Its
first nine values are what the other pages write when they link here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

LEAST = 9
OPTIONAL: tuple[Any, ...] = ("", "auto", False)
# The second optional value was once whether the prompt is a chat message.
_READINGS = {True: "chat", False: "text"}
LONGEST_CHARS = 6_000


def write(values: Sequence[Any]) -> str:
    """Write the controls' values; nothing where they are too long for an address."""
    kept = _without_gaps(values)
    while len(kept) > LEAST and kept[-1] == OPTIONAL[len(kept) - 1 - LEAST]:
        kept.pop()
    text = json.dumps(kept, ensure_ascii=False)
    return text if len(text) <= LONGEST_CHARS else ""


def read(saved: str | None) -> list[Any] | None:
    """Read the controls' values back; None where they are not a comparison."""
    try:
        values = json.loads(saved or "")
    except ValueError:
        return None
    if not isinstance(values, list) or not LEAST <= len(values) <= LEAST + len(OPTIONAL):
        return None
    values = _without_gaps([*values, *OPTIONAL[len(values) - LEAST :]])
    if isinstance(values[10], bool):
        values[10] = _READINGS[values[10]]
    references, prompt, *numbers = values[:LEAST]
    good = (
        isinstance(references, list)
        and all(isinstance(reference, str) for reference in references)
        and isinstance(prompt, str)
        and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers[:-1])
        and isinstance(values[9], str)
        and values[10] in ("auto", "chat", "text")
        and isinstance(values[11], bool)
    )
    return values if good else None


def _without_gaps(values: Sequence[Any]) -> list[Any]:
    """Put the default where an optional control is empty, which it tells as None."""
    optional = zip(values[LEAST:], OPTIONAL, strict=False)
    return [*values[:LEAST], *(last if value is None else value for value, last in optional)]
