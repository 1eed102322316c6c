"""JSON as the world writes it: lone surrogates, NaN and Infinity, a byte order mark.

orjson reads and writes everything that is plain; what it refuses goes through Python's own
reader, and comes out again as it came in. A server in the middle that reads more strictly than
both of its neighbours is a fault of its own.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


class NonFinite(float):
    """A NaN or an Infinity that was read; orjson leaves it to `dumps`, which writes it back."""


def loads(raw: bytes | str, *, errors: str = "strict") -> Any:
    """Parse JSON.

    `errors="replace"` also takes bytes that were cut inside a character.

    Raises: ValueError.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            text = raw.decode("utf-8", errors) if isinstance(raw, bytes) else raw
            return json.loads(text.removeprefix("\ufeff"), parse_constant=NonFinite)
        except (ValueError, RecursionError):
            raise error from None


def dumps(value: Any) -> bytes:
    """Write JSON; what `loads` took beyond the standard is written as it was.

    Raises: ValueError for what is nested too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _plain(value, ascii_only=True)


def clean_dumps(value: Any) -> bytes:
    """Write JSON that every reader takes: U+FFFD for a lone surrogate.

    Raises: ValueError for what is nested too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _plain(value, ascii_only=False)


def _plain(value: Any, *, ascii_only: bool) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return well_formed(text).encode()


def well_formed(text: str) -> str:
    """Return a text with U+FFFD in place of every lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
