"""Anthropic's Messages API as an upstream.

Source: the types of the anthropic SDK 2.x, which the tests check requests with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from yarl import URL

from triptych.tiers.providers.base import UpstreamCall
from triptych.tiers.providers.translated import (
    Shape,
    add_to_turn,
    arguments_of,
    data_url,
    functions_of,
    limit_of,
    schema_of,
    stops_of,
    system_text,
    text_of,
)

#: The API asks for a limit; where a client names none, this is it.
_MAX_TOKENS = 4096
_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length",
            "tool_use": "tool_calls", "refusal": "content_filter", "pause_turn": "stop",
            "model_context_window_exceeded": "length"}  # fmt: skip
_CHOICES = {"auto": {"type": "auto"}, "required": {"type": "any"}, "none": {"type": "none"}}


def key_header(key: str) -> Mapping[str, str]:
    """Return the header of a key."""
    return {"x-api-key": key}


class Anthropic:
    """Translate to and from Messages."""

    headers: Mapping[str, str] = {"anthropic-version": "2023-06-01"}

    def url(self, base: URL, model: str, *, stream: bool) -> URL:
        """Return where every model is asked."""
        return base / "messages"

    def request(self, call: UpstreamCall, *, stream: bool) -> Shape:
        """Write a call.

        Raises: ValueError.
        """
        params = call.params
        if params.get("n", 1) != 1 or params.get("logprobs"):
            raise ValueError("several choices and log-probabilities exist not there")
        body: Shape = {
            "model": call.model,
            "max_tokens": limit_of(params) or _MAX_TOKENS,
            "messages": _messages(call),
        }
        if system := system_text(call.messages):
            body["system"] = system
        if params.get("temperature") is not None:
            body["temperature"] = min(1.0, params["temperature"])
        body |= {n: params[n] for n in ("top_p", "top_k", "thinking") if params.get(n) is not None}
        if stops := stops_of(params):
            body["stop_sequences"] = stops
        if functions := functions_of(params):
            body["tools"] = [_tool(function) for function in functions]
            body["tool_choice"] = _choice(params)
        if (schema := schema_of(params)) is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if isinstance(params.get("user"), str):
            body["metadata"] = {"user_id": params["user"]}
        return body | ({"stream": True} if stream else {})

    def answer(self, body: Shape) -> Shape:
        """Read a whole answer."""
        texts, thoughts, calls = [], [], []
        for block in body["content"]:
            if block["type"] == "text":
                texts.append(block["text"])
            elif block["type"] == "thinking":
                thoughts.append(block["thinking"])
            elif block["type"] == "tool_use":
                arguments = json.dumps(block["input"], ensure_ascii=False)
                function = {"name": block["name"], "arguments": arguments}
                calls.append({"id": block["id"], "type": "function", "function": function})
        message: Shape = {"role": "assistant", "content": "".join(texts) or None}
        message |= {"reasoning_content": "".join(thoughts)} if thoughts else {}
        message |= {"tool_calls": calls} if calls else {"content": "".join(texts)}
        reason = _REASONS.get(body.get("stop_reason") or "", "stop")
        return {
            "model": body.get("model") or "",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": _usage(body.get("usage") or {}),
        }

    def stream(self) -> _Stream:
        """Return what reads one stream."""
        return _Stream()


class _Stream:
    def __init__(self) -> None:
        self.ended = False
        self._usage: Shape = {}
        self._calls: dict[int, int] = {}
        self._model = ""

    def take(self, event: Shape) -> Iterator[Shape]:
        kind = event.get("type")
        if kind == "message_start":
            message = event["message"]
            self._model = str(message.get("model") or "")
            self._usage = dict(message.get("usage") or {})
            yield self._chunk({"role": "assistant", "content": ""})
        elif kind == "content_block_start":
            yield from self._begin(event["index"], event["content_block"])
        elif kind == "content_block_delta":
            yield from self._piece(event["index"], event["delta"])
        elif kind == "message_delta":
            self._usage |= {n: v for n, v in (event.get("usage") or {}).items() if v is not None}
            if reason := event["delta"].get("stop_reason"):
                yield self._chunk({}, _REASONS.get(reason, "stop"))
        elif kind == "message_stop":
            self.ended = True
            yield {"usage": _usage(self._usage)} | ({"model": self._model} if self._model else {})

    def _begin(self, index: int, block: Shape) -> Iterator[Shape]:
        if block["type"] == "tool_use":
            number = self._calls[index] = len(self._calls)
            call = {"index": number, "id": block["id"], "type": "function"}
            yield self._chunk(
                {"tool_calls": [{**call, "function": {"name": block["name"], "arguments": ""}}]}
            )
        elif block.get("text"):
            yield self._chunk({"content": block["text"]})

    def _piece(self, index: int, delta: Shape) -> Iterator[Shape]:
        kind = delta["type"]
        if kind == "text_delta":
            yield self._chunk({"content": delta["text"]})
        elif kind == "thinking_delta":
            yield self._chunk({"reasoning_content": delta["thinking"]})
        elif kind == "input_json_delta":
            function = {"arguments": delta["partial_json"]}
            yield self._chunk({"tool_calls": [{"index": self._calls[index], "function": function}]})

    def _chunk(self, delta: Shape, reason: str | None = None) -> Shape:
        chunk: Shape = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        return chunk | ({"model": self._model} if self._model else {})


def _usage(given: Mapping[str, Any]) -> Shape:
    cached = given.get("cache_read_input_tokens") or 0
    written = given.get("cache_creation_input_tokens") or 0
    asked = (given.get("input_tokens") or 0) + cached + written
    answered = given.get("output_tokens") or 0
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _messages(call: UpstreamCall) -> list[Shape]:
    """Translate the turns; results of tools belong into the user's turn after their calls."""
    found: list[Shape] = []
    for message in call.messages:
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            continue
        if role in ("tool", "function"):
            told = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"),
                    "content": text_of(content)}  # fmt: skip
            add_to_turn(found, "user", "content", [told])
        elif role == "assistant":
            said = text_of(content)
            blocks: list[Shape] = [{"type": "text", "text": said}] if said else []
            for one in message.get("tool_calls") or ():
                blocks.append({"type": "tool_use", "id": one["id"], "input": arguments_of(one),
                               "name": one["function"]["name"]})  # fmt: skip
            add_to_turn(found, "assistant", "content", blocks)
        else:
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            add_to_turn(found, "user", "content", [_part(part) for part in parts or ()])
    return found


def _part(part: Any) -> Shape:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": part["text"]}
    if kind == "image_url":
        return {"type": "image", "source": _source(part["image_url"]["url"])}
    if kind == "file" and (given := (part.get("file") or {}).get("file_data")):
        return {"type": "document", "source": _source(given)}
    raise ValueError(f"a part of type {str(kind)[:40]!r}")


def _source(address: str) -> Shape:
    held = data_url(address)
    if held is None:
        return {"type": "url", "url": address}
    return {"type": "base64", "media_type": held[0], "data": held[1]}


def _tool(function: Shape) -> Shape:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    tool = {"name": function["name"], "input_schema": schema}
    return tool | ({"description": d} if (d := function.get("description")) else {})


def _choice(params: Mapping[str, Any]) -> Shape:
    given = params.get("tool_choice") or "auto"
    if isinstance(given, dict):
        choice: Shape = {"type": "tool", "name": given["function"]["name"]}
    else:
        choice = dict(_CHOICES[given])
    if params.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice
