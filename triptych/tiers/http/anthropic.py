"""`/v1/messages`: Anthropic's API over the chat path, whole and streamed.

What is translated: texts, images, documents, tools with their results, thinking, stop sequences,
JSON schemas. Left out: tools that run at Anthropic, cache marks and thinking budgets, which say
nothing to another model.

Source: the types of the anthropic SDK 2.x, which the tests parse the answers with.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from triptych.errors import InvalidQuery, TierError
from triptych.tiers.http.deltas import count, event, pieces
from triptych.tiers.providers.base import Frame
from triptych.wire import lenient_json

Shape = dict[str, Any]

_SAME = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream", "service_tier")
_STOPS = {"length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use",
          "content_filter": "refusal"}  # fmt: skip
_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
           403: "permission_error", 404: "not_found_error", 413: "request_too_large",
           422: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
           504: "timeout_error"}  # fmt: skip


def chat_body(body: Mapping[str, Any]) -> Shape:
    """Translate a request into one of chat completions.

    Raises: InvalidQuery.
    """
    found: Shape = {name: body[name] for name in _SAME if body.get(name) is not None}
    found.pop("service_tier", None)
    found["messages"] = [*_system(body.get("system")), *_messages(body.get("messages"))]
    found["stop"] = body.get("stop_sequences") or None
    found["tools"] = _tools(body.get("tools")) or None
    if found["tools"]:
        found |= _tool_choice(body.get("tool_choice"))
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("user_id"), str):
        found["user"] = metadata["user_id"]
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, Mapping) else None
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        schema = {"name": "answer", "schema": wanted.get("schema"), "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    if body.get("stream"):
        found["stream_options"] = {"include_usage": True}
    return found


def _system(given: Any) -> list[Shape]:
    text = given if isinstance(given, str) else "\n\n".join(_texts(given))
    return [{"role": "system", "content": text}] if text else []


def _texts(blocks: Any) -> list[str]:
    if isinstance(blocks, str):
        return [blocks]
    if not isinstance(blocks, list):
        return []
    texts = (block.get("text") for block in blocks if isinstance(block, Mapping))
    return [text for text in texts if isinstance(text, str)]


def _messages(given: Any) -> list[Shape]:
    if not isinstance(given, list) or not given:
        raise _fault("messages", "must be a list of at least one message")
    found: list[Shape] = []
    for number, message in enumerate(given):
        where = f"messages.{number}"
        if not isinstance(message, Mapping):
            raise _fault(where, "must be an object")
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise _fault(f"{where}.role", "must be user or assistant")
        if isinstance(content, str):
            found.append({"role": role, "content": content})
        elif not isinstance(content, list):
            raise _fault(f"{where}.content", "must be a text or a list of blocks")
        elif role == "assistant":
            found.append(_assistant(content))
        else:
            found += _turn(role, content, where)
    return found


def _assistant(blocks: Iterable[Any]) -> Shape:
    texts, calls, thoughts = [], [], []
    for block in blocks:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            texts.append(str(block.get("text") or ""))
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking") or ""))
        elif kind == "tool_use":
            arguments = lenient_json.dumps(block.get("input") or {}).decode()
            function = {"name": block.get("name"), "arguments": arguments}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
    message: Shape = {"role": "assistant", "content": "".join(texts) or None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _turn(role: str, blocks: Iterable[Any], where: str) -> list[Shape]:
    """Translate a user's blocks; the results of tools are messages of their own, before them."""
    results: list[Shape] = []
    parts: list[Shape] = []
    for block in blocks:
        if not isinstance(block, Mapping):
            raise _fault(f"{where}.content", "must hold objects")
        if block.get("type") == "tool_result":
            inner = block.get("content")
            text = "\n".join(_texts(inner))
            if block.get("is_error"):
                text = f"Error: {text}"
            results.append(
                {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}
            )
            if isinstance(inner, list):
                parts += [_part(b, where) for b in inner if b.get("type") in ("image", "document")]
        else:
            parts.append(_part(block, where))
    if not parts:
        return results
    only = parts[0].get("text") if len(parts) == 1 else None
    return [*results, {"role": role, "content": parts if only is None else only}]


def _part(block: Mapping[str, Any], where: str) -> Shape:
    kind, source = block.get("type"), block.get("source")
    if kind == "text":
        return {"type": "text", "text": str(block.get("text") or "")}
    if isinstance(source, Mapping):
        data, media = source.get("data"), source.get("media_type")
        url = source.get("url") or f"data:{media};base64,{data}"
        if kind == "image":
            return {"type": "image_url", "image_url": {"url": url}}
        if kind == "document" and source.get("type") == "text":
            return {"type": "text", "text": str(data or "")}
        if kind == "document":
            name = block.get("title") or "document.pdf"
            return {"type": "file", "file": {"filename": name, "file_data": url}}
    raise _fault(
        f"{where}.content", f"holds a block of type {str(kind)[:40]!r}, which is not known"
    )


def _tools(given: Any) -> list[Shape]:
    """Translate the tools a client runs; those that run at Anthropic exist nowhere else."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.get("name"),
                "description": tool.get("description") or "",
                "parameters": tool["input_schema"],
            },
        }
        for tool in given or ()
        if isinstance(tool, Mapping) and isinstance(tool.get("input_schema"), Mapping)
    ]


def _tool_choice(given: Any) -> Shape:
    if not isinstance(given, Mapping):
        return {}
    kind = given.get("type")
    choice: Any = {"auto": "auto", "any": "required", "none": "none"}.get(str(kind))
    if kind == "tool":
        choice = {"type": "function", "function": {"name": given.get("name")}}
    found: Shape = {"tool_choice": choice} if choice else {}
    return found | (
        {"parallel_tool_calls": False} if given.get("disable_parallel_tool_use") else {}
    )


def _fault(field: str, sentence: str) -> InvalidQuery:
    return InvalidQuery(f"{field} {sentence}", param=field, status=400)


# -- answers -------------------------------------------------------------------------------------


def message(completion: Mapping[str, Any]) -> Shape:
    """Translate a whole completion."""
    choice = min(completion["choices"], key=lambda one: one.get("index", 0))
    blocks = []
    for piece in pieces(choice.get("message") or {}):
        block = _block(piece.kind, piece.id, piece.name)
        if piece.kind == "call":
            block["input"] = _arguments(piece.text)
        else:
            block["text" if piece.kind == "text" else "thinking"] = piece.text
        blocks.append(block)
    return {
        **_head(str(completion.get("model") or "")),
        "content": blocks,
        "stop_reason": _stop(choice.get("finish_reason"), blocks),
        "usage": _usage(completion.get("usage") or {}),
    }


def _head(model: str) -> Shape:
    return {
        "id": "msg_" + secrets.token_hex(12),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _block(kind: str, call_id: str, name: str) -> Shape:
    if kind == "call":
        call_id = call_id or "toolu_" + secrets.token_hex(12)
        return {"type": "tool_use", "id": call_id, "name": name, "input": {}}
    if kind == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _arguments(text: str) -> Any:
    try:
        found = lenient_json.loads(text or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"arguments": text}


def _stop(reason: Any, blocks: Iterable[Shape]) -> str:
    if reason in (None, "stop") and any(block["type"] == "tool_use" for block in blocks):
        return "tool_use"
    return _STOPS.get(str(reason), "end_turn")


def _usage(usage: Mapping[str, Any]) -> Shape:
    cached = count(usage, "prompt_tokens_details", "cached_tokens")
    return {
        "input_tokens": max(0, count(usage, "prompt_tokens") - cached),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": count(usage, "completion_tokens"),
    }


def error_shape(error: TierError) -> Shape:
    """Build the body of an error."""
    words = f"{error.message} ({error.hint})" if error.hint else error.message
    return {
        "type": "error",
        "error": {"type": _ERRORS.get(error.status, "api_error"), "message": words},
    }


class MessageWriter:
    """Write a stream of chunks as Anthropic's events."""

    def __init__(self) -> None:
        self._blocks: list[Shape] = []
        self._at: dict[tuple[str, int], int] = {}
        self._open: int | None = None
        self._reason: Any = None
        self._usage: Mapping[str, Any] = {}
        self._started = False

    def take(self, frame: Frame) -> bytes:
        """Return the events for one chunk."""
        chunk = frame.chunk
        if not chunk:
            return frame.wire  # a comment
        found = b"" if self._started else self._start(str(chunk.get("model") or ""))
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                self._reason = choice.get("finish_reason") or self._reason
                for piece in pieces(choice.get("delta") or {}):
                    found += self._piece(*piece)
        return found

    def _start(self, model: str) -> bytes:
        self._started = True
        return event({"type": "message_start", "message": {**_head(model), "usage": _usage({})}})

    def _piece(self, kind: str, text: str, number: int, call_id: str, name: str) -> bytes:
        found, key = b"", (kind, number)
        if key not in self._at or (self._open != self._at[key] and kind != "call"):
            found = self._close()
            self._at[key] = self._open = len(self._blocks)
            block = _block(kind, call_id, name)
            self._blocks.append(block)
            found += event(
                {"type": "content_block_start", "index": self._open, "content_block": block}
            )
        if not text:
            return found
        delta = {
            "text": {"type": "text_delta", "text": text},
            "thinking": {"type": "thinking_delta", "thinking": text},
            "call": {"type": "input_json_delta", "partial_json": text},
        }[kind]
        return found + event(
            {"type": "content_block_delta", "index": self._at[key], "delta": delta}
        )

    def _close(self) -> bytes:
        index, self._open = self._open, None
        return b"" if index is None else event({"type": "content_block_stop", "index": index})

    def end(self) -> bytes:
        """Return the events after the last chunk."""
        found = (b"" if self._started else self._start("")) + self._close()
        delta = {"stop_reason": _stop(self._reason, self._blocks), "stop_sequence": None}
        usage = _usage(self._usage)
        found += event({"type": "message_delta", "delta": delta, "usage": usage})
        return found + event({"type": "message_stop"})

    def fail(self, error: TierError) -> bytes:
        """Return the event of an error."""
        return event(error_shape(error))
