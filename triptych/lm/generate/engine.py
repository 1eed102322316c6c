"""The one interface behind which every engine runs a model, and the shapes that cross it.

An engine implements `start`, `score`, `cancel`, `encode` and `close`; `stream` and `generate`
follow from `start`. All methods may be called from several threads at once. Left out: which
engine is chosen, where models come from (the model cache), and HTTP (`lm.serve`).
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from triptych.config.generate import Sampling
from triptych.errors import GenerationError, TriptychError

__all__ = [
    "Alternative",
    "Chunk",
    "Completion",
    "Emit",
    "Engine",
    "EngineInfo",
    "FinishReason",
    "GenerateRequest",
    "Message",
    "Sampling",
    "Score",
    "Token",
]

FinishReason = Literal["stop", "length", "cancelled", "error"]
Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What runs, for `/info`, logs and cards.

    Units: `size_bytes` is the memory the weights take.
    """

    engine: str
    model: str
    revision: str
    dtype: str
    device: str
    context_length: int
    vocab_size: int
    parameters: int
    size_bytes: int
    has_chat_template: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """One prompt and how to continue it.

    Exactly one of `prompt` (text, or token ids taken as they are) and `messages` (rendered with
    the model's own chat template) is given. With `reread` nothing that was read before is used
    again: llama.cpp rounds a prompt otherwise where it remembers a part of it, and a seed repeats
    its answer only where the rounding does.
    """

    prompt: str | Sequence[int] = ""
    messages: Sequence[Message] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    sampling: Sampling = field(default_factory=Sampling)
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    adapter: str | None = None
    json_schema: Mapping[str, Any] | None = None
    reread: bool = False


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could have stood here.

    Units: `logprob` in nats, of the model's own distribution before any sampling filter.
    """

    token_id: int
    bytes: bytes
    logprob: float

    @property
    def text(self) -> str:
        """Show the bytes as text; a part of a character shows as U+FFFD."""
        return self.bytes.decode("utf-8", errors="replace")


@dataclass(frozen=True, slots=True)
class Token(Alternative):
    """A token of an answer or a scored text, with the likeliest alternatives at its place."""

    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A piece of an answer.

    `text` holds whole characters only and never a part of a stop string, so it can be empty
    while `tokens` is not. The last chunk, and only the last, has a `finish_reason`; with the
    reason `error` it carries the error. `tokens` have log-probability nan unless asked for.
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    finish_reason: FinishReason | None = None
    error: TriptychError | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A whole answer.

    Units: `ttft_s` from the call to the first token, `latency_s` to the last one.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    ttft_s: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Score:
    """How probable a text is under a model.

    `tokens` are all tokens of the text; the first has log-probability nan when nothing precedes
    it. Units: `nats` is the summed negative log-probability of the `scored_tokens`, `text_bytes`
    counts the bytes they spell.
    """

    tokens: tuple[Token, ...]
    nats: float
    scored_tokens: int
    text_bytes: int

    @property
    def perplexity(self) -> float:
        """Return exp of the mean negative log-probability per token."""
        return math.exp(self.nats / self.scored_tokens) if self.scored_tokens else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Return the bits needed per byte of text, comparable between tokenizers."""
        return self.nats / math.log(2) / self.text_bytes if self.text_bytes else math.nan


Emit = Callable[[Chunk], None]


class _Whole:
    """Gather an answer without waking its reader for every token."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.began = math.nan
        self.ended = threading.Event()

    def take(self, chunk: Chunk) -> None:
        """Keep one chunk."""
        if not self.chunks:
            self.began = time.perf_counter()
        self.chunks.append(chunk)
        if chunk.finish_reason is not None:
            self.ended.set()


class Engine(Protocol):
    """Run one model for many requests at once."""

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """Return what runs."""

    @abstractmethod
    def start(self, request: GenerateRequest, emit: Emit) -> None:
        """Begin an answer and return at once; `emit` receives every chunk.

        `emit` is called from the engine's own thread, in order, and must not block; the last
        call has a `finish_reason`, also after `cancel` and after an error.

        Raises: GenerationError where the request cannot be answered: prompt empty or with ids
            that are not in the vocabulary (code `token_ids`), prompt too long (code
            `context_length`), something this engine cannot do (code `unsupported`), engine
            closed (code `closed`). Nothing is emitted then.
        """

    @abstractmethod
    def score(
        self, text: str | Sequence[int], *, alternatives: int = 0, adapter: str | None = None
    ) -> Score:
        """Return the log-probability of each token of a text, with the likeliest alternatives.

        Raises: GenerationError as for `start`.
        """

    @abstractmethod
    def cancel(self, request_id: str) -> bool:
        """End a running or waiting answer within one step; False where none has that id."""

    @abstractmethod
    def encode(
        self, prompt: str | Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Return the token ids the model would read for a text or for chat messages.

        A last message of the assistant is a text that the answer continues.
        """

    @abstractmethod
    def close(self) -> None:
        """Cancel what runs, free the memory; `start` and `score` raise from then on."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens by their names.

        Raises: GenerationError with code `unsupported` from engines that cannot.
        """
        raise GenerationError(
            f"the {self.info.engine} engine knows no text of token ids",
            hint="send the prompt as text",
            code="unsupported",
        )

    def embed(self, ids: Sequence[int]) -> list[float]:
        """Return the average of the last hidden states over a text, of length 1.

        Raises: GenerationError with code `unsupported` from engines that cannot.
        """
        raise GenerationError(
            f"the {self.info.engine} engine makes no embeddings",
            hint="use the llama_cpp or the torch engine",
            code="unsupported",
        )

    def stream(self, request: GenerateRequest) -> Iterator[Chunk]:
        """Yield the answer piece by piece; leaving the loop early cancels it.

        Raises: GenerationError as for `start`, and whatever the answer ended with.
        """
        chunks: SimpleQueue[Chunk] = SimpleQueue()
        self.start(request, chunks.put)
        finished = False
        try:
            while not finished:
                chunk = chunks.get()
                finished = chunk.finish_reason is not None
                if chunk.error is not None:
                    raise chunk.error
                yield chunk
        finally:
            if not finished:
                self.cancel(request.request_id)

    def generate(
        self, request: GenerateRequest, on_text: Callable[[str], None] | None = None
    ) -> Completion:
        """Return the whole answer; `on_text` sees its text while it comes.

        Raises: GenerationError as for `stream`.
        """
        started = time.perf_counter()
        whole = _Whole()
        if on_text is not None:
            for chunk in self.stream(request):
                on_text(chunk.text)
                whole.take(chunk)
        else:
            self.start(request, whole.take)
            try:
                whole.ended.wait()
            finally:
                if not whole.ended.is_set():
                    self.cancel(request.request_id)
        last = whole.chunks[-1]
        if last.error is not None:
            raise last.error
        return Completion(
            text="".join(chunk.text for chunk in whole.chunks),
            tokens=tuple(token for chunk in whole.chunks for token in chunk.tokens),
            finish_reason=last.finish_reason or "error",
            input_tokens=last.input_tokens,
            output_tokens=last.output_tokens,
            cached_tokens=last.cached_tokens,
            ttft_s=whole.began - started,
            latency_s=time.perf_counter() - started,
        )
