"""Let several models answer one prompt at the same time, and tell how each is doing.

Each model writes in its engine's own thread into one queue; the page reads the queue and draws.
A model that fails says so in its own column and never stops the others.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from triptych.config.generate import Sampling
from triptych.errors import TriptychError
from triptych.lm.generate.engine import Chunk, GenerateRequest
from triptych.panels.playground.models import Shelf

DRAW_EVERY_S = 0.06


@dataclass
class Column:
    """What one model has written so far, and its figures.

    Units: seconds since it was asked; tokens.
    """

    reference: str
    text: str = ""
    note: str = "loading"
    done: bool = False
    ttft_s: float | None = None
    tok_per_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    _first_s: float = field(default=0.0, repr=False)

    def take(self, chunk: Chunk, asked_s: float) -> None:
        """Add a piece of the answer."""
        now_s = time.perf_counter()
        if self.ttft_s is None:
            self.ttft_s, self._first_s = now_s - asked_s, now_s
        self.note = ""
        self.text += chunk.text
        self.output_tokens = chunk.output_tokens or self.output_tokens + len(chunk.tokens)
        self.input_tokens = chunk.input_tokens or self.input_tokens
        if self.output_tokens > 1 and now_s > self._first_s:
            self.tok_per_s = (self.output_tokens - 1) / (now_s - self._first_s)
        if chunk.finish_reason is not None:
            self.done = True
            self.note = str(chunk.error) if chunk.error else chunk.finish_reason


def contest(
    shelf: Shelf, references: Sequence[str], prompt: str, sampling: Sampling, *, chat: bool = False
) -> Iterator[list[Column]]:
    """Yield all columns whenever there is something new; leaving early cancels the rest."""
    columns = [Column(reference) for reference in references]
    news: queue.SimpleQueue[tuple[int, Chunk | TriptychError]] = queue.SimpleQueue()
    leaving = threading.Event()
    asked_s = time.perf_counter()
    for index, reference in enumerate(references):
        arguments = (shelf, reference, _request(prompt, sampling, chat), index, news, leaving)
        threading.Thread(target=_answer, args=arguments, daemon=True).start()
    try:
        yield columns
        while not all(column.done for column in columns):
            for index, piece in _drain(news):
                if isinstance(piece, TriptychError):
                    columns[index].done = True
                    columns[index].note = str(piece)
                else:
                    columns[index].take(piece, asked_s)
            yield columns
    finally:
        leaving.set()


def _drain(
    news: queue.SimpleQueue[tuple[int, Chunk | TriptychError]],
) -> list[tuple[int, Chunk | TriptychError]]:
    """Wait for something, then take all that comes within one frame."""
    pieces = [news.get()]
    until_s = time.perf_counter() + DRAW_EVERY_S
    while (left_s := until_s - time.perf_counter()) > 0:
        try:
            pieces.append(news.get(timeout=left_s))
        except queue.Empty:
            break
    return pieces


def _answer(
    shelf: Shelf,
    reference: str,
    request: GenerateRequest,
    index: int,
    news: queue.SimpleQueue[tuple[int, Chunk | TriptychError]],
    leaving: threading.Event,
) -> None:
    try:
        with shelf.lease(reference) as engine:
            for chunk in engine.stream(request):
                news.put((index, chunk))
                if leaving.is_set():
                    return
    except TriptychError as error:
        news.put((index, error))


def _request(prompt: str, sampling: Sampling, chat: bool) -> GenerateRequest:
    if chat:
        messages = ({"role": "user", "content": prompt},)
        return GenerateRequest(messages=messages, sampling=sampling)
    return GenerateRequest(prompt=prompt, sampling=sampling)
