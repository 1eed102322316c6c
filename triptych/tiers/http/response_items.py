"""The answers of `/v1/responses`: items of output, whole, and event by event."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from triptych.errors import TierError
from triptych.tiers.http.deltas import Piece, event, pieces
from triptych.tiers.http.responses import Shape, head, usage
from triptych.tiers.providers.base import Frame

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_IDS = {"text": "msg_", "thinking": "rs_", "call": "fc_"}


def response(completion: Mapping[str, Any], given: Shape, request_id: str) -> Shape:
    """Translate a whole completion."""
    writer = ResponseWriter(given, request_id)
    choice = min(completion["choices"], key=lambda one: one.get("index", 0))
    for piece in pieces(choice.get("message") or {}):
        writer.add(piece)
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, Mapping):
        writer.logprobs += logprobs.get("content") or ()
    writer.reason = choice.get("finish_reason")
    writer.usage = completion.get("usage") or {}
    return writer.whole(str(completion.get("model") or ""))


class ResponseWriter:
    """Write a stream of chunks as the events of a response."""

    def __init__(self, given: Shape, request_id: str) -> None:
        self._given = given
        self._request_id = request_id
        self._created = time.time()
        self._number = 0
        self._items: list[Shape] = []
        self._texts: list[list[str]] = []
        self._at: dict[tuple[str, int], int] = {}
        self._open: set[int] = set()
        self._model = ""
        self.logprobs: list[Any] = []
        self.reason: Any = None
        self.usage: Mapping[str, Any] = {}

    # -- items -----------------------------------------------------------------------------------

    def add(self, piece: Piece) -> tuple[int, bool]:
        """Put a piece into its item.

        Returns: where the item is, and whether it is new.
        """
        key = (piece.kind, piece.number)
        at = self._at.get(key)
        if is_new := at is None or (piece.kind != "call" and at != len(self._items) - 1):
            at = self._at[key] = len(self._items)
            self._items.append(_item(piece))
            self._texts.append([])
        assert at is not None
        self._texts[at].append(piece.text)
        return at, is_new

    def _finished(self, at: int, status: str = "completed") -> Shape:
        item, text = {**self._items[at], "status": status}, "".join(self._texts[at])
        if item["type"] == "message":
            item["content"] = [self._part(text)]
        elif item["type"] == "reasoning":
            item["content"] = [{"type": "reasoning_text", "text": text}]
        else:
            item["arguments"] = text
        return item

    def _part(self, text: str) -> Shape:
        return {
            "type": "output_text",
            "text": text,
            "annotations": [],
            "logprobs": self.logprobs if text else [],
        }

    def whole(self, model: str) -> Shape:
        """Return the answer as it stands now, ended."""
        reason = _INCOMPLETE.get(str(self.reason))
        status = "incomplete" if reason else "completed"
        items = [self._finished(at) for at in range(len(self._items))]
        if reason and items:
            items[-1]["status"] = "incomplete"
        found = head(self._given, self._request_id, model, self._created)
        return found | {
            "status": status,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": items,
            "completed_at": None if reason else time.time(),
            "usage": usage(self.usage),
        }

    def ended(self) -> Shape:
        """Return the answer of a stream as it stands after the last chunk."""
        return self.whole(self._model)

    # -- events ----------------------------------------------------------------------------------

    def take(self, frame: Frame) -> bytes:
        """Return the events for one chunk."""
        chunk = frame.chunk
        if not chunk:
            return frame.wire  # a comment
        found = b"" if self._number else self._start(str(chunk.get("model") or ""))
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            self.reason = choice.get("finish_reason") or self.reason
            logprobs = choice.get("logprobs")
            entries = (logprobs.get("content") or []) if isinstance(logprobs, Mapping) else []
            self.logprobs += entries
            for piece in pieces(choice.get("delta") or {}):
                found += self._piece(piece, entries)
        return found

    def _start(self, model: str) -> bytes:
        self._model = model
        begun = head(self._given, self._request_id, model, self._created)
        return self._event("created", response=begun) + self._event("in_progress", response=begun)

    def _piece(self, piece: Piece, entries: list[Any]) -> bytes:
        at, is_new = self.add(piece)
        where = {"item_id": self._items[at]["id"], "output_index": at}
        found = b""
        if is_new:
            found += self._close() + self._begin(at, where)
        if not piece.text:
            return found
        if piece.kind == "call":
            return found + self._event("function_call_arguments.delta", **where, delta=piece.text)
        where["content_index"] = 0
        if piece.kind == "thinking":
            return found + self._event("reasoning_text.delta", **where, delta=piece.text)
        return found + self._event("output_text.delta", **where, delta=piece.text, logprobs=entries)

    def _begin(self, at: int, where: Shape) -> bytes:
        self._open.add(at)
        item = {**self._items[at], "status": "in_progress"}
        found = self._event("output_item.added", output_index=at, item=item)
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        elif item["type"] == "reasoning":
            part = {"type": "reasoning_text", "text": ""}
        else:
            return found
        return found + self._event("content_part.added", **where, content_index=0, part=part)

    def _close(self) -> bytes:
        """End the items that are open."""
        found = b""
        for at in sorted(self._open):
            item, where = self._finished(at), {"item_id": self._items[at]["id"], "output_index": at}
            if item["type"] == "function_call":
                found += self._event(
                    "function_call_arguments.done", **where, arguments=item["arguments"],
                    name=item["name"],
                )  # fmt: skip
            else:
                (part,), where["content_index"] = item["content"], 0
                more = {} if item["type"] == "reasoning" else {"logprobs": self.logprobs}
                name = "reasoning_text.done" if item["type"] == "reasoning" else "output_text.done"
                found += self._event(name, **where, text=part["text"], **more)
                found += self._event("content_part.done", **where, part=part)
            found += self._event("output_item.done", output_index=at, item=item)
        self._open.clear()
        return found

    def end(self) -> bytes:
        """Return the events after the last chunk."""
        found = b"" if self._number else self._start("")
        ended = self.ended()
        return found + self._close() + self._event(ended["status"], response=ended)

    def fail(self, error: TierError) -> bytes:
        """Return the events of an error."""
        found = b"" if self._number else self._start("")
        failed = self.whole(self._model) | {
            "status": "failed",
            "error": {"code": "server_error", "message": error.message},
            "completed_at": None,
        }
        return found + self._event("failed", response=failed)

    def _event(self, name: str, /, **about: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event({"type": f"response.{name}", "sequence_number": number, **about})


def _item(piece: Piece) -> Shape:
    item: Shape = {"id": _IDS[piece.kind] + secrets.token_hex(12)}
    if piece.kind == "text":
        return item | {"type": "message", "role": "assistant", "content": []}
    if piece.kind == "thinking":
        return item | {"type": "reasoning", "summary": [], "content": []}
    call_id = piece.id or "call_" + secrets.token_hex(12)
    return item | {
        "type": "function_call", "call_id": call_id, "name": piece.name, "arguments": ""
    }  # fmt: skip
