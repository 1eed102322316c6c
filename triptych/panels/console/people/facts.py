"""A company's facts as a text that an admin edits: one `name: value` a line.

A line that begins with a space belongs to the value above it. A value that is not a text is shown
as JSON, and stays what it was while its words are not changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from triptych.errors import InvalidQuery

_MOST, _LONGEST_NAME = 50, 64


def written(facts: Mapping[str, Any]) -> str:
    """Return facts as the text of the form."""
    return "\n".join(f"{name}: {_words(value)}" for name, value in facts.items())


def read(text: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that a text says; `before` are those it was made of.

    Raises: InvalidQuery naming the line.
    """
    found: dict[str, str] = {}
    name = ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        if line[0] in " \t" and name:
            found[name] += f"\n{line.strip()}"
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not name or len(name) > _LONGEST_NAME:
            raise InvalidQuery(
                f"line {number} is not `name: value`", param="facts",
                hint=f"a name of at most {_LONGEST_NAME} characters, a colon, then the fact",
            )  # fmt: skip
        if name in found:
            raise InvalidQuery(f"line {number}: {name!r} is there twice", param="facts")
        found[name] = value
    if len(found) > _MOST:
        raise InvalidQuery(f"{len(found)} facts; at most {_MOST} are kept", param="facts")
    kept = {name: value for name, value in before.items() if not isinstance(value, str)}
    return {
        name: kept[name] if name in kept and _plain(kept[name]) == value else value
        for name, value in found.items()
    }


def _words(value: Any) -> str:
    return _plain(value).replace("\n", "\n  ")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
