"""Answers of several models at the same time, and how far each is.

An entry is one model with its own prompt and sampling, so that a comparison can hold all but one
of the three still. A model that fails says so in its own column and never stops the others.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from triptych.config.generate import Sampling
from triptych.errors import TriptychError
from triptych.formatting import format_count
from triptych.lm.generate.engine import Chunk, EngineInfo, GenerateRequest, Token
from triptych.panels.playground.gateway import Gateway, Trace, tier_of
from triptych.panels.playground.models.chat_models import is_chat_model
from triptych.panels.playground.models.loaded_models import LoadedModels
from triptych.panels.playground.models.queue import AnswerQueue
from triptych.panels.playground.visitor import Visitor

DRAW_EVERY_S = 0.06
# What a speed is measured over at the least.
FEWEST_PIECES, SHORTEST_S = 4, 0.02
LINE_LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One column of a comparison: which model answers what, and how.

    With `chat` None the prompt is a chat message for models that were trained to answer, and for
    the gateway's tiers; `Column.entry` has what it was found to be.
    """

    reference: str
    label: str
    prompt: str
    sampling: Sampling
    chat: bool | None = None

    def request(self) -> GenerateRequest:
        """Return the request for the engine."""
        if self.chat:
            messages = ({"role": "user", "content": self.prompt},)
            return GenerateRequest(messages=messages, sampling=self.sampling, reread=True)
        return GenerateRequest(prompt=self.prompt, sampling=self.sampling, reread=True)


@dataclass
class Column:
    """What one entry has brought so far, and its figures.

    Units: seconds since its turn came; tokens. `origin` says what really answered.
    """

    entry: Entry
    text: str = ""
    note: str = ""
    done: bool = False
    failed: bool = False
    ttft_s: float | None = None
    tok_per_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tokens: list[Token] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)
    _asked_s: float = field(default=0.0, repr=False)
    _first_s: float = field(default=0.0, repr=False)
    _pieces: int = field(default=0, repr=False)

    def begin(self) -> None:
        """Start the clock."""
        self._asked_s = time.perf_counter()

    def take(self, chunk: Chunk) -> None:
        """Add a piece of the answer."""
        now_s = time.perf_counter()
        if chunk.text or chunk.tokens:
            if self.ttft_s is None:
                self.ttft_s, self._first_s = now_s - self._asked_s, now_s
            self._pieces += 1
            self.note = ""
        self.text += chunk.text
        self.output_tokens = chunk.output_tokens or self.output_tokens + len(chunk.tokens)
        self.input_tokens = chunk.input_tokens or self.input_tokens
        if self.entry.sampling.logprobs is not None:
            self.tokens.extend(chunk.tokens)
        writing_s = now_s - self._first_s
        # Text that came in one piece, or in a few at once, was written before its first piece.
        if self._pieces >= FEWEST_PIECES and writing_s >= SHORTEST_S:
            self.tok_per_s = (self.output_tokens - 1) / writing_s
        if chunk.finish_reason is not None:
            self.note = str(chunk.error) if chunk.error else chunk.finish_reason
            self.failed = chunk.error is not None

    def fail(self, error: TriptychError) -> None:
        """Record why there is no answer, and what to do about it."""
        self.failed = True
        self.note = f"{error.message}. {error.hint}" if error.hint else error.message


@dataclass
class Comparison:
    """A comparison that was made: its columns in the order in which they were shown."""

    columns: list[Column]
    blind: bool = False
    revealed: bool = False
    comparison_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time_s: float = field(default_factory=time.time)

    @property
    def hidden(self) -> bool:
        """Return whether the names are hidden until the vote."""
        return self.blind and not self.revealed

    @property
    def done(self) -> bool:
        """Return whether every column has ended."""
        return all(column.done for column in self.columns)

    def stop(self) -> None:
        """Call every column ended that is still being written."""
        for column in self.columns:
            if not column.done:
                column.done, column.note = True, "cancelled"

    def answered(self) -> list[int]:
        """List the columns that brought an answer."""
        return [i for i, column in enumerate(self.columns) if column.text and not column.failed]


class Comparer:
    """Runs comparisons over the models here and the gateway's tiers, in the order of the queue."""

    def __init__(
        self, loaded_models: LoadedModels, gateway: Gateway | None, queue: AnswerQueue
    ) -> None:
        self.loaded_models = loaded_models
        self.gateway = gateway
        self.queue = queue

    async def hold(
        self, entries: Sequence[Entry], visitor: Visitor, *, blind: bool = False
    ) -> AsyncGenerator[Comparison, None]:
        """Yield the comparison whenever there is something new; leaving early cancels the rest."""
        comparison = Comparison([Column(entry) for entry in entries], blind=blind)
        changed = asyncio.Event()
        writing = [
            asyncio.ensure_future(self._write(column, visitor, changed))
            for column in comparison.columns
        ]
        try:
            while not comparison.done:
                yield comparison
                await changed.wait()
                await asyncio.sleep(DRAW_EVERY_S)  # takes all that comes within one frame
                changed.clear()
            yield comparison
        finally:
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)

    async def _write(self, column: Column, visitor: Visitor, changed: asyncio.Event) -> None:
        try:
            with self.queue.join(visitor.name) as ticket:
                while not await ticket.is_called(LINE_LOOK_S):
                    column.note = f"waiting, {ticket.ahead} before this one"
                    changed.set()
                column.begin()
                chunks = self._chunks(column, visitor, changed)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        column.take(chunk)
                        changed.set()
        except TriptychError as error:
            column.fail(error)
        except asyncio.CancelledError:
            column.note = "cancelled"
            raise
        finally:
            column.done = True
            changed.set()

    async def _chunks(
        self, column: Column, visitor: Visitor, changed: asyncio.Event
    ) -> AsyncGenerator[Chunk, None]:
        entry = column.entry
        tier = tier_of(entry.reference)
        if tier is not None and self.gateway is not None:
            if entry.chat is None:
                column.entry = entry = replace(entry, chat=True)
            trace = Trace()
            answer = self.gateway.chunks(tier, entry.request(), trace, visitor.key)
            async with aclosing(answer):
                async for chunk in answer:
                    column.origin = trace.as_dict()
                    yield chunk
            return
        column.note = "looking for the model"
        changed.set()
        model = await self.loaded_models.find(entry.reference)
        if entry.chat is None:
            column.entry = entry = replace(entry, chat=is_chat_model(model.folder))
        column.origin = {"model": model.name, "revision": model.revision}
        if not self.loaded_models.is_loaded(model):
            column.note = "loading the model"
            changed.set()
        answer = self.loaded_models.chunks(model, entry.request())
        async with aclosing(answer):
            async for chunk in answer:
                if "engine" not in column.origin and (
                    engine := self.loaded_models.engine_of(model.name)
                ):
                    column.origin["engine"] = describe_engine(engine.info)
                yield chunk


def describe_engine(info: EngineInfo) -> str:
    """Return in a few words which engine runs a model, and its size."""
    size = f"{format_count(info.parameters)} parameters, " if info.parameters else ""
    return f"{size}{info.engine} {info.dtype}"
