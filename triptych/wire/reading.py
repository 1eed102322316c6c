"""How a request of OpenAI's API is read, by the gateway and by the model server alike.

Null is absent. A message may be the very one an SDK received: its empty fields are left out, and
its unknown ones stay. An unknown field is no mistake, unless it is a known one misspelt: that
would change the answer in silence. Ranges and types of values are each server's own business.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

Message = dict[str, Any]

ROLES = ("assistant", "developer", "function", "system", "tool", "user")

#: How near an unknown name must be to a known one to be taken for a slip of the pen.
_MISSPELT = 0.9


class FieldFault(ValueError):
    """A field of a request is wrong: which one, and why."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field} {sentence}")
        self.field = field


def given(body: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the fields that a client set; null is absent.

    Raises: FieldFault for a misspelt field.
    """
    found = {name: value for name, value in body.items() if value is not None}
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=_MISSPELT)
            if near:
                raise FieldFault(str(name)[:64], f"is not a known field; did you mean {near[0]}?")
    return found


def messages(given: Any, *, system_allowed: bool = True) -> list[Message]:
    """Read the messages of a chat.

    Raises: FieldFault.
    """
    if not isinstance(given, list) or not given:
        raise FieldFault("messages", "must be a list of at least one message")
    return [_message(message, number, system_allowed) for number, message in enumerate(given)]


def _message(message: Any, number: int, system_allowed: bool) -> Message:
    if not isinstance(message, dict):
        raise FieldFault(f"messages.{number}", "must be an object")
    role = message.get("role")
    if role not in ROLES:
        raise FieldFault(f"messages.{number}.role", f"must be one of {', '.join(ROLES)}")
    if role in ("system", "developer") and not system_allowed:
        raise FieldFault(f"messages.{number}.role", "system messages are not allowed here")
    content = message.get("content")
    if content is None:
        if role not in ("assistant", "tool", "function"):
            raise FieldFault(f"messages.{number}.content", "is required")
    elif not isinstance(content, str | list):
        raise FieldFault(f"messages.{number}.content", "must be a text or a list of parts")
    elif not content and role in ("user", "system", "developer"):
        raise FieldFault(f"messages.{number}.content", "is empty")
    return _without_empty(message)


def _without_empty(message: Message) -> Message:
    """Leave out the fields that an SDK wrote down as empty; a null content says something."""
    values = message.values()
    if None not in values and [] not in values:
        return message
    return {
        name: value
        for name, value in message.items()
        if name == "content" or (value is not None and value != [])
    }
