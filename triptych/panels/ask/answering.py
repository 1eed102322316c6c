"""Answers that are being written: one task for each, which any number of pages may follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from triptych.errors import TierError, UsageError
from triptych.panels.ask.history import Answer, Conversation, History
from triptych.panels.gateway_client import GatewayClient
from triptych.wire import openai as shapes
from triptych.wire import sse

#: Pages are sent at most ten states of an answer in a second.
EVERY_S = 0.1
QUIET_S = 15.0
_FACTS = ("tier", "provider", "upstream", "model", "revision", "reason", "fallback", "cached")


class Answering:
    """Writes answers in the background and saves them when they end."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed: dict[str, asyncio.Event] = {}

    def begin(self, conversation: Conversation, gateway: GatewayClient) -> None:
        """Begin the answer to the last question of a conversation.

        Raises: UsageError while another answer is being written there.
        """
        self.require_idle(conversation)
        conversation.turns[-1].answer = Answer()
        self._changed[conversation.id] = asyncio.Event()
        task = asyncio.create_task(self._write(conversation, gateway))
        self._tasks[conversation.id] = task

    def require_idle(self, conversation: Conversation) -> None:
        """Refuse while an answer is being written.

        Raises: UsageError.
        """
        if conversation.id in self._tasks:
            raise UsageError("an answer is being written", hint="stop it first, or wait for it")

    async def stop(self, conversation: Conversation) -> None:
        """End the answer that is being written; what is there stays."""
        if task := self._tasks.get(conversation.id):
            task.cancel()
            await asyncio.wait([task])

    async def follow(self, conversation: Conversation) -> AsyncIterator[Answer]:
        """Yield the last answer as it is now, again at each change, until it has ended."""
        answer = conversation.turns[-1].answer
        while answer.state == "writing" and conversation.id in self._changed:
            yield answer
            changed = self._changed[conversation.id]
            try:
                await asyncio.wait_for(changed.wait(), QUIET_S)
            except TimeoutError:
                continue
            changed.clear()
            await asyncio.sleep(EVERY_S)
        yield answer

    async def close(self) -> None:
        """End every answer."""
        for task in list(self._tasks.values()):
            task.cancel()
            await asyncio.wait([task])

    async def _write(self, conversation: Conversation, gateway: GatewayClient) -> None:
        answer, changed = conversation.turns[-1].answer, self._changed[conversation.id]
        body = {"model": conversation.tier, "messages": conversation.messages, "stream": True}
        headers = {"x-triptych-feature": "ask", "x-triptych-conversation": conversation.id}
        if conversation.company:
            headers["x-triptych-company"] = conversation.company
        try:
            async for part in gateway.events("/v1/chat/completions", body, headers):
                take(answer, part)
                changed.set()
            answer.state = "done"
        except TierError as error:
            answer.state = "failed"
            answer.error = f"{error.message} {error.hint}".strip()
        except asyncio.CancelledError:
            answer.state = "stopped"
        finally:
            self._tasks.pop(conversation.id, None)
            self._history.save(conversation)
            changed.set()


def take(answer: Answer, part: Mapping[str, str] | sse.Event) -> None:
    """Add what came to an answer: the headers first, then each event.

    Raises: TierError when the stream reports an error.
    """
    if not isinstance(part, sse.Event):
        answer.request_id = part.get("x-request-id", "")
        found = {name: part.get(f"x-triptych-{name}", "") for name in _FACTS}
        answer.facts = {name: text for name, text in found.items() if text}
        return
    if part.data == sse.DONE_DATA:
        return
    chunk: dict[str, Any] = orjson.loads(part.data)
    if "error" in chunk:
        raise TierError(shapes.error_message(chunk) or "the answer broke off")
    answer.text += shapes.delta_text(chunk)
    if model := str(chunk.get("model") or ""):
        answer.facts.setdefault("model", model)
    for choice in chunk.get("choices") or ():
        answer.citations += choice.get("citations") or []
