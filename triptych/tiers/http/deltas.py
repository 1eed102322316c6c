"""What an answer of OpenAI's chat shape says, piece by piece: for APIs that say it otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from triptych.wire import lenient_json, sse
from triptych.wire.openai import plain_text


class Piece(NamedTuple):
    """A piece of one part of an answer."""

    kind: Literal["text", "thinking", "call"]
    text: str
    """Words, or a part of a call's arguments."""
    number: int = 0
    """Which call."""
    id: str = ""
    name: str = ""


def pieces(message: Mapping[str, Any]) -> Iterator[Piece]:
    """Yield what a delta, or a whole message, says."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        yield Piece("thinking", thought)
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") == "thinking":
                inner = part.get("thinking")
                yield Piece("thinking", plain_text(inner))
    if text := plain_text(content) or message.get("refusal"):
        yield Piece("text", str(text))
    for number, call in enumerate(message.get("tool_calls") or ()):
        if isinstance(call, dict):
            function = call.get("function") or {}
            index = call.get("index")
            yield Piece(
                "call",
                str(function.get("arguments") or ""),
                index if type(index) is int else number,
                str(call.get("id") or ""),
                str(function.get("name") or ""),
            )


def event(body: Mapping[str, Any]) -> bytes:
    """Write an event that is named by its type."""
    return sse.encode(lenient_json.dumps(body), event=str(body["type"]))


def count(usage: Mapping[str, Any], *path: str) -> int:
    """Read one count of a usage block; 0 where there is none."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if type(value) is int else 0
