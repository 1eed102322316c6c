"""Personal data and secrets are masked on the way to an external upstream, and put back in answers.

What a pattern of `redaction` finds becomes a mark such as `[email_1]`, the same mark for the same
text within a request, so that an answer can speak of it; marks in the answer, in its calls and its
thoughts too, become the text again. Names of people are no pattern and stay.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from triptych.tiers.providers.base import Completion, Frame
from triptych.tiers.rules.redaction import KINDS
from triptych.wire import lenient_json

#: Fields that hold no words of a person: names for programs, and files, in which digits are chance.
_KEPT = frozenset(
    ("role", "type", "id", "tool_call_id", "name", "url", "data", "file_data", "format", "detail")
)
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class Mask:
    """Hide the texts of one request, and show them again in its answer."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._texts)

    def hide(self, value: Any) -> Any:
        """Return a JSON value with every text masked."""
        if isinstance(value, str):
            return self._hidden(value)
        if isinstance(value, dict):
            return {n: v if n in _KEPT else self.hide(v) for n, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value

    def _hidden(self, text: str) -> str:
        for kind in KINDS:
            text = kind.pattern.sub(
                lambda found, kind=kind: (  # type: ignore[misc]
                    self._mark(kind.name, found[0]) if kind.check(found[0]) else found[0]
                ),
                text,
            )
        return text

    def _mark(self, kind: str, text: str) -> str:
        mark = self._marks.get(text)
        if mark is None:
            self._counts[kind] += 1
            mark = self._marks[text] = f"[{kind}_{self._counts[kind]}]"
            self._texts[mark] = text
        return mark

    def show(self, text: str) -> str:
        """Put the texts back where their marks stand."""
        for mark, original in self._texts.items():
            text = text.replace(mark, original)
        return text

    def show_arguments(self, text: str) -> str:
        """Put them back inside JSON that is written as a text."""
        for mark, original in self._texts.items():
            text = text.replace(mark, json.dumps(original, ensure_ascii=False)[1:-1])
        return text

    def begins(self, text: str) -> int:
        """Measure the longest end of a text with which a mark may begin."""
        at = text.rfind("[")
        if at < 0:
            return 0
        end = text[at:]
        return len(end) if any(mark.startswith(end) and mark != end for mark in self._texts) else 0

    def restored(self, completion: Completion) -> Completion:
        """Return a whole answer with the texts put back."""
        body = {**completion.body}
        body["choices"] = [
            _changed(choice, "message", lambda _, text, show: show(text), self)
            for choice in body["choices"]
        ]
        return Completion(body, None, completion.revision)

    async def frames(self, frames: AsyncGenerator[Frame]) -> AsyncGenerator[Frame]:
        """Yield a stream with the texts put back; a mark may come in pieces."""
        held: dict[tuple[Any, ...], str] = {}
        try:
            async for frame in frames:
                chunk = frame.chunk
                if not chunk.get("choices"):
                    yield frame
                    continue
                choices = [self._piece(choice, held) for choice in chunk["choices"]]
                chunk = {**chunk, "choices": choices}
                yield Frame(b"data: " + lenient_json.dumps(chunk) + b"\n\n", chunk)
        finally:
            await frames.aclose()

    def _piece(self, choice: dict[str, Any], held: dict[tuple[Any, ...], str]) -> dict[str, Any]:
        index = choice.get("index", 0)
        ends = bool(choice.get("finish_reason"))

        def piece(where: tuple[Any, ...], text: str, show: Callable[[str], str]) -> str:
            whole = held.pop((index, *where), "") + text
            keep = 0 if ends else self.begins(whole)
            if keep:
                held[(index, *where)] = whole[len(whole) - keep :]
            return show(whole[: len(whole) - keep])

        if ends:
            choice = _with_rests(choice, [key[1:] for key in held if key[0] == index])
        return _changed(choice, "delta", piece, self)


def _with_rests(choice: dict[str, Any], waiting: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Put what still waits to be sent into a choice's last chunk."""
    delta = dict(choice.get("delta") or {})
    calls = list(delta.get("tool_calls") or ())
    for where in waiting:
        if where[0] == "text":
            choice = {**choice, "text": choice.get("text") or ""}
        elif where[0] != "tool_calls":
            delta[where[0]] = delta.get(where[0]) or ""
        elif all(call.get("index") != where[1] for call in calls):
            calls.append({"index": where[1], "function": {"arguments": ""}})
    if calls:
        delta["tool_calls"] = calls
    return {**choice, "delta": delta} if delta else choice


Change = Callable[[tuple[Any, ...], str, Callable[[str], str]], str]


def _changed(choice: dict[str, Any], name: str, change: Change, mask: Mask) -> dict[str, Any]:
    """Return a choice with each of its texts changed."""
    found = dict(choice)
    if isinstance(found.get("text"), str):
        found["text"] = change(("text",), found["text"], mask.show)
    said = found.get(name)
    if not isinstance(said, dict):
        return found
    said = dict(said)
    for field in _TEXTS:
        if isinstance(said.get(field), str):
            said[field] = change((field,), said[field], mask.show)
    if isinstance(said.get("content"), list):
        said["content"] = [_part(part, mask) for part in said["content"]]
    if said.get("tool_calls"):
        said["tool_calls"] = list(_calls(said["tool_calls"], change, mask))
    return {**found, name: said}


def _part(part: Any, mask: Mask) -> Any:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return {**part, "text": mask.show(part["text"])}
    return part


def _calls(calls: list[Any], change: Change, mask: Mask) -> Iterator[Any]:
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
            yield call
            continue
        where = ("tool_calls", call.get("index", number))
        arguments = change(where, function["arguments"], mask.show_arguments)
        yield {**call, "function": {**function, "arguments": arguments}}
