"""One answer, collected from the chunks of a stream or taken whole.

One `AnswerAccumulator` sees every chunk of an answer and serves all who need to know it: the
output filter, the cache, the token count, the record, and the check that no choice was cut off.
Every choice counts, and every text of a choice: content, refusal, reasoning, function arguments.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from triptych.tiers.providers.base import Completion, Frame
from triptych.tiers.rules import tokens
from triptych.tiers.rules.filters import OutputFilter, StreamCheck, check
from triptych.tiers.rules.query import Query, TokensSource, Trace, Usage
from triptych.wire import lenient_json
from triptych.wire.openai import OBJECTS, plain_text, usage_chunk

#: Fields of a delta that name something; the first value stands, later ones are not appended.
_LABELS = frozenset(("role", "id", "type", "name", "index"))
#: Fields that hold no text of the model.
_NOT_TEXT = frozenset(("role", "id", "type", "index"))
_CHOICE_FIELDS = frozenset(("index", "message", "delta", "text", "finish_reason"))
#: No client reads deeper; a hostile upstream may nest until Python's stack ends.
_MAX_DEPTH = 16

Path = tuple[str | int, ...]


class AnswerAccumulator:
    """Collect one answer of one request."""

    __slots__ = (
        "_characters",
        "_checks",
        "_chunk_fields",
        "_filter",
        "_finish",
        "_merged",
        "_query",
        "_usage",
        "_usage_block",
        "_whole",
        "keeping",
        "model",
        "revision",
        "tokens_source",
    )

    def __init__(self, query: Query, output_filter: OutputFilter | None = None) -> None:
        self._query = query
        self._filter = output_filter
        self._checks: dict[Path, StreamCheck] = {}
        self._finish: dict[int, str] = {}
        """Why each choice ended; empty while it has not."""
        self._characters = 0
        self._usage: Usage | None = None
        self._usage_block: dict[str, Any] | None = None
        self._merged: dict[int, dict[str, Any]] = {}
        self._chunk_fields: dict[str, Any] = {}
        self._whole: dict[str, Any] | None = None
        self.keeping = False
        """Whether a stream's choices are merged, for the cache or the record; set before it."""
        self.model = ""
        self.revision = ""
        self.tokens_source: TokensSource | None = None
        """Set where the answer is a kept one: how its tokens were counted at that time."""

    # -- what is fed -----------------------------------------------------------------------------

    def take_chunk(self, chunk: dict[str, Any]) -> None:
        """Take one chunk of a stream, before it is sent to the client.

        Raises: OutputBlocked.
        """
        if (usage := chunk.get("usage")) is not None:
            self._take_usage(usage)
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            if finish := choice.get("finish_reason"):
                self._finish[index] = finish
                self._take_names(chunk.get("model"), chunk.get("system_fingerprint"))
            elif index not in self._finish:
                self._finish[index] = ""
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                delta = {"text": choice.get("text")}
            self._take_texts(index, delta)
            if self.keeping:
                self._merge(index, choice, delta)
        if self.keeping and not self._chunk_fields:
            names = ("created", "model", "system_fingerprint", "service_tier")
            self._chunk_fields = {n: chunk[n] for n in names if chunk.get(n) is not None}

    def take_completion(self, completion: Completion) -> None:
        """Take a whole answer; a usage block is added to it where the upstream sent none.

        Raises: OutputBlocked, with the usage counted.
        """
        body = self._whole = completion.body
        self._take_names(body.get("model"), completion.revision)
        self._take_usage(body.get("usage"))
        found: list[tuple[Path, str]] = []
        for choice in body["choices"]:
            self._finish[choice.get("index", 0)] = str(choice.get("finish_reason") or "")
            message = choice.get("message")
            found += texts({"text": choice.get("text")} if message is None else message)
        self._characters = sum(len(part) for _, part in found)
        if self._usage is None:
            usage = self.usage
            body["usage"] = _usage_block(usage)
            completion.raw = None
        if self._filter is not None:
            for _, part in found:
                check(part, self._filter)

    def _take_names(self, model: Any, revision: Any) -> None:
        self.model = str(model or self.model)
        self.revision = str(revision or self.revision)

    def _take_usage(self, usage: Any) -> None:
        if (count := tokens.counted(usage)) is not None:
            self._usage, self._usage_block = count, usage

    def _take_texts(self, index: int, delta: dict[str, Any]) -> None:
        content = delta.get("content")
        if self._filter is None and len(delta) == 1 and isinstance(content, str):
            self._characters += len(content)  # most chunks of most streams
            return
        for path, text in texts(delta):
            self._characters += len(text)
            if self._filter is not None:
                path = (index, *path)
                stream = self._checks.get(path)
                if stream is None:
                    stream = self._checks[path] = StreamCheck(self._filter)
                stream.take(text)

    def _merge(self, index: int, choice: dict[str, Any], delta: dict[str, Any]) -> None:
        kept = self._merged.setdefault(index, {"delta": {}})
        _merge(kept["delta"], delta, 0)
        _merge(kept, {n: v for n, v in choice.items() if n not in _CHOICE_FIELDS}, 0)

    # -- what is read ----------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether any of the answer has come."""
        return bool(self._finish)

    @property
    def usage(self) -> Usage:
        """Return the upstream's count, else an estimate from the characters of every choice."""
        usage = self._usage or tokens.estimated(self._query, self._characters)
        if self.tokens_source is not None:
            return Usage(usage.input_tokens, usage.output_tokens, self.tokens_source)
        return usage

    @property
    def usage_seen(self) -> bool:
        """Whether the upstream counted the tokens itself."""
        return self._usage is not None

    def usage_frame(self) -> Frame:
        """Return the closing usage chunk of a stream whose upstream sent none, marked so."""
        query = self._query
        block = {**_usage_block(self.usage), "estimated": True}
        chunk = usage_chunk(
            query.kind, self.model, block, id=query.request_id, created=int(time.time())
        )
        return Frame(b"data: " + lenient_json.dumps(chunk) + b"\n\n", chunk)

    @property
    def finish_reason(self) -> str:
        """Return why the first choice ended."""
        return self._finish[min(self._finish)] if self._finish else ""

    def cut_off(self, *, done: bool) -> bool:
        """Return whether a stream that ended had a choice without its end.

        `done`: the upstream wrote `[DONE]`. Some never write a reason; that is an end then, unless
        another choice has one.
        """
        ends = self._finish.values()
        return not all(ends) and (any(ends) or not done)

    def settle(self, trace: Trace) -> None:
        """Write into the trace what the answer was."""
        trace.usage = self.usage
        trace.finish_reason = self.finish_reason or trace.finish_reason
        trace.model = self.model or trace.model
        trace.revision = self.revision or trace.revision

    @property
    def text(self) -> str:
        """Return the text of the first choice; empty for a stream that was not kept."""
        if self._whole is not None:
            choice = min(self._whole["choices"], key=lambda c: c.get("index", 0))
            message = choice.get("message")
            return plain_text(choice.get("text") if message is None else message.get("content"))
        if not self._merged:
            return ""
        delta = self._merged[min(self._merged)]["delta"]
        return plain_text(_joined(delta.get("text") or delta.get("content"), 0))

    def body(self) -> dict[str, Any]:
        """Return the answer as a whole completion, with everything that its stream carried."""
        if self._whole is not None:
            return self._whole
        kind = self._query.kind
        return {
            "id": self._query.request_id,
            "object": OBJECTS[kind][0],
            "created": 0,
            "model": self.model,
            **self._chunk_fields,
            "choices": [self._choice(index) for index in sorted(self._merged)],
            "usage": self._usage_block or _usage_block(self.usage),
        }

    def _choice(self, index: int) -> dict[str, Any]:
        kept = _joined(self._merged[index], 0)
        delta = kept.pop("delta")
        choice: dict[str, Any] = {"index": index}
        if self._query.kind == "text":
            choice["text"] = delta.get("text") or ""
        else:
            choice["message"] = {"role": "assistant", "content": None, "refusal": None, **delta}
            for call in delta.get("tool_calls") or ():
                if isinstance(call, dict):
                    call.pop("index", None)
        return {**choice, "finish_reason": self._finish[index], "logprobs": None, **kept}


def replay(body: Mapping[str, Any], query: Query, revision: str) -> list[Frame]:
    """Make the frames of a stream from a kept whole answer: all of it, in few chunks."""
    head = {
        "id": query.request_id,
        "object": OBJECTS[query.kind][1],
        "created": body.get("created") or 0,
        "model": body.get("model") or "",
        "system_fingerprint": body.get("system_fingerprint") or revision or None,
    }
    if body.get("service_tier"):
        head["service_tier"] = body["service_tier"]
    found: list[dict[str, Any]] = []
    for choice in body["choices"]:
        index = choice.get("index", 0)
        rest = {name: v for name, v in choice.items() if name not in _CHOICE_FIELDS}
        last: dict[str, Any] = {"index": index, "finish_reason": choice.get("finish_reason")}
        if query.kind == "text":
            first = {"index": index, "text": choice.get("text") or ""}
            last["text"] = ""
        else:
            first = {"index": index, "delta": _delta(choice.get("message") or {})}
            last["delta"] = {}
        found.append({**head, "choices": [{**first, "finish_reason": None, **rest}]})
        found.append({**head, "choices": [{**last, "logprobs": None}]})
    found.append({**head, "choices": [], "usage": body.get("usage") or {}})
    return [Frame(b"data: " + lenient_json.dumps(chunk) + b"\n\n", chunk) for chunk in found]


def _delta(message: Mapping[str, Any]) -> dict[str, Any]:
    delta = {name: value for name, value in message.items() if value is not None}
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [
            {"index": n, **call} if isinstance(call, dict) else call for n, call in enumerate(calls)
        ]
    return delta


def texts(message: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield every text of a message or delta, with where it stands."""
    for name, value in message.items():
        if not value or name in _NOT_TEXT:
            continue
        if isinstance(value, str):
            yield (*path, name), value
        elif isinstance(value, dict | list) and len(path) > _MAX_DEPTH:
            yield (*path, name), lenient_json.dumps(value).decode()
        elif isinstance(value, dict):
            yield from texts(value, (*path, name))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, str):
                    yield (*path, name, number), item
                elif isinstance(item, dict):
                    index = item.get("index")
                    at = index if type(index) is int else number
                    yield from texts(item, (*path, name, at))


class _Pieces(list[str]):
    """The pieces of one text, joined once at the end."""


def _merge(into: dict[str, Any], piece: Mapping[str, Any], depth: int) -> None:
    """Add a chunk's part: texts and lists grow, names stay, the rest is replaced."""
    for name, value in piece.items():
        old = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif isinstance(value, str) and name not in _LABELS:
            if isinstance(old, _Pieces):
                old.append(value)
            elif name == "content" and isinstance(old, list):
                old.append({"type": "text", "text": value})  # after a list of thinking parts
            else:
                into[name] = _Pieces((value,))
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            if not isinstance(old, dict):
                old = into[name] = {}
            _merge(old, value, depth + 1)
        elif isinstance(value, list) and depth < _MAX_DEPTH:
            if not isinstance(old, list) or isinstance(old, _Pieces):
                old = into[name] = []
            _merge_items(old, value, depth + 1)
        elif name not in _LABELS or not old:
            into[name] = value


def _merge_items(into: list[Any], items: list[Any], depth: int) -> None:
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if type(index) is not int:
            into.append(item)
            continue
        same = [old for old in into if isinstance(old, dict) and old.get("index") == index]
        if not same:
            same = [{}]
            into.append(same[0])
        _merge(same[0], item, depth)


def _joined(value: Any, depth: int) -> Any:
    if isinstance(value, _Pieces):
        return "".join(value)
    if depth > 2 * _MAX_DEPTH + 2:
        return value
    if isinstance(value, dict):
        return {name: _joined(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list):
        return [_joined(part, depth + 1) for part in value]
    return value


def _usage_block(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
