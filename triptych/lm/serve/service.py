"""Between HTTP and the engines: models by name, admission, answers as they come.

Engines call back from their own threads; an `Answer` hands their chunks to the event loop, many
chunks at a time when they come faster than a connection takes them. Left out: HTTP itself.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from triptych.config.generate import Sampling
from triptych.config.serve import ServeConfig
from triptych.errors import GenerationError
from triptych.lm.generate.cache import Lease, ModelCache
from triptych.lm.generate.engine import Chunk, Emit, Engine, GenerateRequest
from triptych.lm.serve.metrics import Metrics

#: Longer prompts are turned into tokens on a thread, so that the event loop keeps answering.
LONG_PROMPT_CHARACTERS = 4096

#: Tokens that come faster than this are sent together, save the first and the last: no one reads
#: that fast, and each wake-up takes its time from the cores that decode.
PACE_S = 0.02


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One model of this server: the name clients use, its folder, what runs there.

    `default_adapter` is set where the model is itself an adapter on the base in `folder`.
    """

    name: str
    folder: Path
    revision: str
    adapters: Mapping[str, Path] = field(default_factory=dict)
    created: int = 0
    default_adapter: str | None = None

    @property
    def names(self) -> list[str]:
        """Return every name that clients may use: the model's, then those of its adapters."""
        return [self.name, *(name for name in self.adapters if name != self.default_adapter)]


@dataclass(frozen=True)
class Chosen:
    """What a client's model name means: a served model, and the adapter on it if any."""

    model: ServedModel
    adapter: str | None


class UnknownModel(GenerationError):
    """No model of that name is served; the hint has the nearest names."""

    default_code = "model_not_found"


class TooBusy(GenerationError):
    """The queue is full; `retry_after_s` is when to try again."""

    default_code = "queue_full"
    default_retryable = True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, hint=f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Answer:
    """The running answer to one client: one or several choices, streamed or collected."""

    def __init__(self, service: ModelService, lease: Lease, model: str, choices: int) -> None:
        self.engine: Engine = lease.engine
        self.model = model
        self.started = time.perf_counter()
        self._service = service
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[tuple[int, Chunk]] = deque()
        self._arrived = asyncio.Event()
        self._signalled = False
        self._unfinished: dict[int, str] = {}
        self._choices = choices
        self._ended = False

    def begin(self, requests: Sequence[GenerateRequest]) -> None:
        """Start every choice; nothing runs when one of them is refused."""
        for index, request in enumerate(requests):
            try:
                self.engine.start(request, self._emit_for(index))
            except BaseException:
                self.close()
                raise
            self._unfinished[index] = request.request_id

    def _emit_for(self, index: int) -> Emit:
        def emit(chunk: Chunk) -> None:
            self._chunks.append((index, chunk))
            # One wake-up serves all chunks that arrive before the loop gets to them; the last
            # one never waits for the pace.
            if not self._signalled or chunk.finish_reason is not None:
                self._signalled = True
                try:
                    self._loop.call_soon_threadsafe(self._arrived.set)
                except RuntimeError:
                    # The loop is gone with the server; the engine still finishes its step.
                    self._chunks.clear()

        return emit

    async def batches(self) -> AsyncIterator[list[tuple[int, Chunk]]]:
        """Yield what has arrived since the last time, until every choice has ended.

        Raises: the error a choice ended with.
        """
        chunks = self._chunks
        first = True
        while self._unfinished:
            await self._arrived.wait()
            self._arrived.clear()
            self._loop.call_later(PACE_S, self._check_again)
            batch: list[tuple[int, Chunk]] = []
            while chunks:
                index, chunk = chunks.popleft()
                if chunk.finish_reason is not None:
                    self._unfinished.pop(index, None)
                    self._service.metrics.finished(self.model, chunk)
                    if chunk.error is not None:
                        self.close()
                        raise chunk.error
                batch.append((index, chunk))
            if first and batch:
                first = False
                self._service.metrics.ttft(self.model, time.perf_counter() - self.started)
            yield batch

    def _check_again(self) -> None:
        # In this order, a chunk that comes meanwhile is either seen here or wakes the loop itself.
        self._signalled = False
        if self._chunks:
            self._signalled = True
            self._arrived.set()

    def close(self) -> None:
        """End the answer: cancel what still runs, let the model and the place in the queue go."""
        if self._ended:
            return
        self._ended = True
        for request_id in self._unfinished.values():
            self.engine.cancel(request_id)
            self._service.metrics.cancelled(self.model)
        self._lease.release()
        self._service.leave(self.model, self._choices, time.perf_counter() - self.started)


class ModelService:
    """Serve several models to many clients from one process."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        open_model: Callable[[ServedModel], Engine],
        size_of: Callable[[ServedModel], int],
        *,
        config: ServeConfig,
        defaults: Sampling,
        max_batch: int,
        memory_bytes: int,
    ) -> None:
        self.models = {model.name: model for model in models}
        self.config = config
        self.defaults = defaults
        self.metrics = Metrics()
        self.started_at = time.time()
        self.failures: dict[str, str] = {}
        self._max_batch = max_batch
        self._active: defaultdict[str, int] = defaultdict(int)
        self._mean_answer_s: defaultdict[str, float] = defaultdict(lambda: 1.0)
        self._cache = ModelCache(
            lambda name: open_model(self.models[name]),
            lambda name: size_of(self.models[name]),
            memory_bytes=memory_bytes,
        )

    def choose(self, name: str | None, adapter: str | None = None) -> Chosen:
        """Find the model a client names; the first one where no name is given.

        Raises: UnknownModel with the nearest names.
        """
        name = name or next(iter(self.models))
        if name in self.models:
            chosen = self.models[name]
            return Chosen(chosen, adapter or chosen.default_adapter)
        for model in self.models.values():
            if name in model.adapters:
                return Chosen(model, name)
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
        raise UnknownModel(
            f"no model {name!r} is served here", hint=f"served are: {', '.join(near)}"
        )

    def names(self) -> list[str]:
        """List every name a client may use: models, then their adapters."""
        models = self.models.values()
        return [*self.models, *(name for model in models for name in model.names[1:])]

    async def answer(self, chosen: Chosen, requests: Sequence[GenerateRequest]) -> Answer:
        """Begin the answer to one client, one request per choice.

        Raises: TooBusy when the queue is full; GenerationError when the engine refuses.
        """
        name = chosen.model.name
        self._enter(name, len(requests))
        try:
            lease = await self.lease(chosen.model)
        except BaseException:
            self.leave(name, len(requests), None)
            raise
        answer = Answer(self, lease, name, len(requests))
        if _characters(requests[0]) > LONG_PROMPT_CHARACTERS:
            await asyncio.to_thread(answer.begin, requests)
        else:
            answer.begin(requests)
        return answer

    async def lease(self, model: ServedModel) -> Lease:
        """Return a loaded model, loading it on a thread where it is not loaded yet."""
        lease = self._cache.lease_loaded(model.name)
        if lease is None:
            lease = await asyncio.to_thread(self._cache.lease, model.name)
            self.failures.pop(model.name, None)
        return lease

    def engine_of(self, name: str) -> Engine | None:
        """Return a loaded model's engine, to read its `info`; None while it is not loaded."""
        lease = self._cache.lease_loaded(name)
        if lease is None:
            return None
        with lease as engine:
            return engine

    def leave(self, name: str, choices: int, took_s: float | None) -> None:
        """Free places in the queue; remember how long an answer takes."""
        self._active[name] -= choices
        self.metrics.active(name, self._active[name])
        if took_s is not None:
            self._mean_answer_s[name] += 0.1 * (took_s - self._mean_answer_s[name])
            self.metrics.latency(name, took_s)

    def close(self) -> None:
        """Close every model."""
        self._cache.close()

    def _enter(self, name: str, choices: int) -> None:
        places = self._max_batch + self.config.max_waiting
        active = self._active[name]
        if active + choices > places:
            self.metrics.refused(name)
            rounds = (active + choices) / self._max_batch
            raise TooBusy(
                f"{active} answers of {name} are running or waiting, the limit is {places}",
                retry_after_s=max(1, round(rounds * self._mean_answer_s[name] / 2)),
            )
        self._active[name] = active + choices
        self.metrics.active(name, active + choices)


def _characters(request: GenerateRequest) -> int:
    if request.messages:
        return sum(len(message["content"]) for message in request.messages)
    return len(request.prompt)
