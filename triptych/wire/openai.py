"""The shapes of OpenAI's HTTP API as plain dictionaries, written and read.

Chat completions, completions, their streamed chunks, model lists, usage and errors. Requests are
checked in `triptych.wire.requests`; transport and authentication belong to the servers and clients.

Source: the openai SDK 3.x, whose types the tests parse these shapes with.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

Shape = dict[str, Any]
Kind = Literal["chat", "text"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "cancelled", "error"]

OBJECTS: dict[Kind, tuple[str, str]] = {
    "chat": ("chat.completion", "chat.completion.chunk"),
    "text": ("text_completion", "text_completion"),
}

#: HTTP status to the `type` an OpenAI client expects in the error body.
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


def new_id(kind: Kind = "chat") -> str:
    """Make the id of a completion: `chatcmpl-...` or `cmpl-...`."""
    return ("chatcmpl-" if kind == "chat" else "cmpl-") + secrets.token_hex(12)


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> Shape:
    """Build a usage block; `cached_tokens` of the prompt were not computed again."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def chat_choice(
    text: str,
    finish_reason: str = "stop",
    *,
    index: int = 0,
    logprobs: Shape | None = None,
    tool_calls: Sequence[Shape] = (),
) -> Shape:
    """Build one choice of a chat completion."""
    message: Shape = {"role": "assistant", "content": text, "refusal": None}
    if tool_calls:
        message |= {"content": text or None, "tool_calls": list(tool_calls)}
    return {
        "index": index,
        "message": message,
        "finish_reason": finish_reason,
        "logprobs": logprobs,
    }


def text_choice(
    text: str,
    finish_reason: str = "stop",
    *,
    index: int = 0,
    logprobs: Shape | None = None,
) -> Shape:
    """Build one choice of a plain completion."""
    return {"index": index, "text": text, "finish_reason": finish_reason, "logprobs": logprobs}


def completion(
    kind: Kind,
    model: str,
    choices: Sequence[Shape],
    usage: Shape,
    *,
    id: str = "",
    created: int = 0,
    system_fingerprint: str | None = None,
) -> Shape:
    """Build a whole (not streamed) completion of either kind."""
    return {
        "id": id or new_id(kind),
        "object": OBJECTS[kind][0],
        "created": created or int(time.time()),
        "model": model,
        "system_fingerprint": system_fingerprint,
        "choices": list(choices),
        "usage": usage,
    }


def chunk(
    kind: Kind,
    model: str,
    *,
    id: str,
    created: int,
    text: str | None = None,
    role: str | None = None,
    index: int = 0,
    finish_reason: str | None = None,
    logprobs: Shape | None = None,
    system_fingerprint: str | None = None,
    tool_calls: Sequence[Shape] = (),
) -> Shape:
    """Build one streamed chunk; `ChunkWriter` is the fast path for the same bytes."""
    choice: Shape = {"index": index}
    if kind == "chat":
        delta: Shape = {}
        if role is not None:
            delta["role"] = role
        if text is not None:
            delta["content"] = text
        if tool_calls:
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(tool_calls)]
        choice["delta"] = delta
    else:
        choice["text"] = text or ""
    choice["finish_reason"] = finish_reason
    choice["logprobs"] = logprobs
    return {
        "id": id,
        "object": OBJECTS[kind][1],
        "created": created,
        "model": model,
        "system_fingerprint": system_fingerprint,
        "choices": [choice],
    }


def usage_chunk(kind: Kind, model: str, usage: Shape, *, id: str, created: int) -> Shape:
    """Build the last chunk of a stream that asked for `include_usage`: no choice, the usage."""
    return {
        "id": id,
        "object": OBJECTS[kind][1],
        "created": created,
        "model": model,
        "system_fingerprint": None,
        "choices": [],
        "usage": usage,
    }


class ChunkWriter:
    """Write the streamed chunks of one completion as finished server-sent events.

    Everything that does not change between two tokens is encoded once, so that a token costs one
    JSON string and one concatenation.
    """

    def __init__(
        self, kind: Kind, model: str, *, id: str = "", created: int = 0, fingerprint: str = ""
    ) -> None:
        self.kind: Kind = kind
        self.model = model
        self.id = id or new_id(kind)
        self.created = created or int(time.time())
        self._fingerprint = fingerprint or None
        whole = chunk(
            kind,
            model,
            id=self.id,
            created=self.created,
            text="\0",
            index=0,
            system_fingerprint=self._fingerprint,
        )
        before, after = orjson.dumps(whole).split(b'"\\u0000"')
        head, tail = before.split(b'"index":0')
        self._head = b"data: " + head + b'"index":'
        self._middle = tail
        self._after = after + b"\n\n"

    def text(self, text: str, index: int = 0) -> bytes:
        """Encode one piece of text of one choice."""
        return b"%b%d%b%b%b" % (self._head, index, self._middle, orjson.dumps(text), self._after)

    def chunk(self, **fields: Any) -> bytes:
        """Encode any other chunk: the opening role, the finish, log-probabilities."""
        shape = chunk(
            self.kind,
            self.model,
            id=self.id,
            created=self.created,
            system_fingerprint=self._fingerprint,
            **fields,
        )
        return b"data: " + orjson.dumps(shape) + b"\n\n"

    def usage(self, usage: Shape) -> bytes:
        """Encode the closing usage chunk."""
        shape = usage_chunk(self.kind, self.model, usage, id=self.id, created=self.created)
        return b"data: " + orjson.dumps(shape) + b"\n\n"


def error(
    message: str, *, status: int = 400, code: str | None = None, param: str | None = None
) -> Shape:
    """Build an error body of the type OpenAI's clients expect for the HTTP status."""
    kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model_card(id: str, *, created: int = 0, owned_by: str = "triptych", **extra: Any) -> Shape:
    """Build one entry of the model list; extra fields are the server's own."""
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by, **extra}


def model_list(cards: Sequence[Shape]) -> Shape:
    """Build the answer of `GET /v1/models`."""
    return {"object": "list", "data": list(cards)}


def content_text(content: object) -> str:
    """Read a message's content, given as a string or as a list of text parts.

    Raises: ValueError for anything else, such as an image part.
    """
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, Sequence):
        return "".join(_part_text(part) for part in content)
    raise ValueError(f"content must be a string or a list of parts, got {type(content).__name__}")


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    kind: object = type(part).__name__
    if isinstance(part, Mapping):
        if part.get("type") in ("thinking", "reasoning"):
            return ""  # what a model thought is no part of what it said
        if isinstance(part.get("text"), str):
            return str(part["text"])
        kind = part.get("type")
    raise ValueError(f"content parts must be text, got {kind!r}")


def plain_text(content: object) -> str:
    """Read the text of an answer's content, whatever else stands in it.

    Reasoning models answer with a list of `thinking` and `text` parts.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    found = (part.get("text") if isinstance(part, Mapping) else part for part in content)
    return "".join(part for part in found if isinstance(part, str))


def delta_text(chunk: Mapping[str, Any], index: int = 0) -> str:
    """Read the text a streamed chunk of either kind adds to one choice."""
    for choice in chunk.get("choices") or ():
        if choice.get("index", 0) == index:
            delta = choice.get("delta")
            if isinstance(delta, Mapping):
                return plain_text(delta.get("content"))
            return choice.get("text") or ""
    return ""


def finish_reason(shape: Mapping[str, Any], index: int = 0) -> str | None:
    """Read why one choice of a completion or chunk ended, if it has."""
    for choice in shape.get("choices") or ():
        if choice.get("index", 0) == index:
            reason = choice.get("finish_reason")
            return None if reason is None else str(reason)
    return None


def answer_text(completion: Mapping[str, Any], index: int = 0) -> str:
    """Read the text of one choice of a whole completion of either kind.

    Raises: ValueError when the answer holds no such choice.
    """
    for choice in completion.get("choices") or ():
        if choice.get("index", 0) == index:
            message = choice.get("message")
            if isinstance(message, Mapping):
                return plain_text(message.get("content"))
            if isinstance(choice.get("text"), str):
                return str(choice["text"])
    raise ValueError(f"the completion has no choice {index}")


def error_message(body: object) -> str:
    """Read the message of an error body in any of the shapes upstreams use."""
    if isinstance(body, Mapping):
        inner = body.get("error", body.get("detail", body.get("message")))
        if isinstance(inner, Mapping):
            inner = inner.get("message")
        if isinstance(inner, str):
            return inner
    return ""
