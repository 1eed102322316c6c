"""JSON as files hold it: a value a line, one array, or values printed over several lines.

Left out: what the values mean (records.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_BETWEEN = re.compile(r"[\s,]*")


class NotJson(Exception):
    """Raised where the rest of a file is no JSON; `size` is how many characters were not read."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def is_array_or_printed(start: str) -> bool:
    """Return whether JSON is one array of objects, or objects printed over several lines.

    `start` is the beginning of the file; a file of one value a line is neither.
    """
    text = start.lstrip()
    if text.startswith("["):
        return text[1:].lstrip()[:1] in ("{", "")
    first, _, rest = text.partition("\n")
    # A first line that is damaged ends with a brace all the same; a printed object's does not.
    return first.rstrip() == "{" or (
        bool(rest) and text[:1] == "{" and first.rstrip()[-1:] in ",{["
    )


def values(blocks: Iterator[str], max_chars: int) -> Iterator[Any]:
    """Yield the values of one array, or of values in a row, with one of them in memory at a time.

    Raises: NotJson where a value is damaged, nested too deeply or longer than `max_chars`.
    """
    decoder = json.JSONDecoder()
    text, position, is_open = next(blocks, "").lstrip(), 0, True
    if text.startswith("["):
        position = 1
    while True:
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
        if position < len(text) and text[position] == "]":
            return
        try:
            value, after = decoder.raw_decode(text, position)
            # A number at the end of a block may go on in the next one.
            if after < len(text) or not is_open:
                yield value
                position = after
                continue
        except (ValueError, RecursionError):
            if not is_open and position >= len(text):
                return
            if not is_open or len(text) - position > max_chars:
                raise NotJson(len(text) - position) from None
        block = next(blocks, None)
        is_open = block is not None
        text, position = text[position:] + (block or ""), 0
