"""Ask upstreams until one answers: one retry budget, breakers, timeouts, fallback.

There is one loop, for whole answers and for streams alike: a stream counts as answered with its
first token, and nothing is ever retried after that. What each kind of failure allows is written
in `UpstreamError`; the table of the fault matrix is in `tests/tiers/test_faults.py`.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from triptych.config.gateway import GatewayConfig
from triptych.errors import (
    UpstreamError,
    UpstreamInterrupted,
    UpstreamMalformed,
    UpstreamMissing,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from triptych.processes.idle_clock import IdleClock
from triptych.tiers.pipeline.accumulator import AnswerAccumulator, texts
from triptych.tiers.pipeline.attempts.balance import Balancer
from triptych.tiers.pipeline.attempts.masking import Mask
from triptych.tiers.pipeline.attempts.outcome import (
    least,
    none_available,
    stopping,
    too_slow,
    update_breaker,
)
from triptych.tiers.pipeline.breaker import Breaker, News
from triptych.tiers.pipeline.calls import CallBuilder
from triptych.tiers.pipeline.places import Place, Places, in_place
from triptych.tiers.providers.base import Completion, Frame, Provider, UpstreamCall
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.query import Attempt, Query, Trace
from triptych.tiers.rules.selector import Route, Selection

T = TypeVar("T")
_JITTER = 0.15


@dataclass(slots=True)
class Opened:
    """A stream after its first token: what came so far, and the rest."""

    frames: list[Frame]
    rest: AsyncGenerator[Frame]
    attempt: Attempt | None
    call: UpstreamCall | None = None
    gathering: asyncio.Task[Any] | None = None
    """The work on an answer that is shown only when it is whole."""

    async def close(self) -> None:
        """End the stream, also one of which nothing was read yet."""
        if self.gathering is not None:
            self.gathering.cancel()
        await self.rest.aclose()


class Dispatcher:
    """Hold the providers and their breakers, and run the one loop."""

    def __init__(self, config: GatewayConfig, calls: CallBuilder) -> None:
        self.config = config
        self._calls = calls
        self.providers: dict[str, Provider] = {}
        self.breakers: dict[str, Breaker] = {}
        self.balancer = Balancer(config.balance)
        self.places: dict[str, Places] = {}
        self.on_news: Callable[[str, News, float], None] | None = None
        """Called with each upstream that is found failing or held."""

    def install(self, upstream: Upstream, provider: Provider) -> None:
        """Put a provider in place; its breaker starts closed unless it was there before."""
        name = upstream.name
        self.providers[name] = provider
        self.places[name] = Places(name, upstream.max_connections, self.config.queue_timeout_s)
        breaker = Breaker(self.config.breaker_failures, self.config.breaker_open_s)
        if self.on_news is not None:
            breaker.on_open = functools.partial(self.on_news, name)
        self.breakers.setdefault(name, breaker)

    def remove(self, names: Iterable[str]) -> list[Provider]:
        """Take providers out of service; requests they are answering go on."""
        return [self.providers.pop(name) for name in list(names) if name in self.providers]

    async def complete(self, query: Query, selection: Selection, trace: Trace) -> Completion:
        """Return a whole answer from the first upstream that gives one.

        Raises: UpstreamError of the last attempt, NoProviderAvailable when none was possible.
        """

        async def ask(provider: Provider, call: UpstreamCall, *_: Any) -> Completion:
            done = await provider.complete(call)
            return done if call.mask is None else call.mask.restored(done)

        return await self._run(query, selection, trace, ask, self._answer_timeout)

    async def embed(
        self, query: Query, selection: Selection, trace: Trace, payload: dict[str, Any]
    ) -> tuple[Any, bytes]:
        """Return embeddings from the first upstream that makes them.

        Raises: as `complete`.
        """

        async def ask(provider: Provider, call: UpstreamCall, *_: Any) -> tuple[Any, bytes]:
            asked = {**payload, "model": call.model}
            if selection.masked and provider.upstream.external:
                asked["input"] = Mask().hide(asked["input"])
            return await provider.embed(asked)

        return await self._run(query, selection, trace, ask, self._answer_timeout)

    async def open(self, query: Query, selection: Selection, trace: Trace) -> Opened:
        """Return a stream that has given its first token.

        Raises: as `complete`.
        """

        async def ask(
            provider: Provider, call: UpstreamCall, attempt: Attempt, place: Place
        ) -> Opened:
            rest = in_place(provider.stream(call), place)
            if call.mask is not None:
                rest = call.mask.frames(rest)
            frames: list[Frame] = []
            try:
                async for frame in rest:
                    frames.append(frame)
                    if has_token(frame.chunk):
                        attempt.ttft_s = time.monotonic() - attempt.started_s
                        return Opened(frames, rest, attempt, call)
                if frames:
                    raise UpstreamUnreachable(
                        f"{attempt.upstream} ended its stream early", code="upstream_truncated"
                    )
                raise UpstreamMalformed(f"{attempt.upstream} streamed nothing")
            except UpstreamInterrupted as error:
                # Nothing has been handed out yet, so others may still be asked.
                raise UpstreamUnreachable(error.message, code=error.code) from error
            except BaseException:
                await rest.aclose()
                raise

        return await self._run(query, selection, trace, ask, self._first_token_timeout)

    async def frames(
        self, opened: Opened, trace: Trace, answer: AnswerAccumulator
    ) -> AsyncGenerator[Frame]:
        """Yield a stream's frames, the first ones and the rest, for as long as they keep coming.

        Each is added to the answer before it is yielded.

        Raises: UpstreamInterrupted, UpstreamTimeout, OutputBlocked.
        """
        rest, idle_s = opened.rest, self.config.idle_timeout_s
        attempt, clock = opened.attempt, time.monotonic
        try:
            for frame in opened.frames:
                answer.take_chunk(frame.chunk)
                yield frame
            with IdleClock(idle_s) as idle:
                while True:
                    asked_s = clock()
                    try:
                        frame = await idle.wait(anext(rest))
                    except StopAsyncIteration:
                        break
                    except TimeoutError as error:
                        raise UpstreamTimeout(
                            f"the upstream was silent for {idle_s:g} s", code="upstream_idle"
                        ) from error
                    finally:
                        trace.upstream_s += clock() - asked_s
                    answer.take_chunk(frame.chunk)
                    yield frame
            if answer.cut_off(done=opened.call is not None and opened.call.done):
                raise UpstreamInterrupted(
                    f"{trace.upstream} ended its stream early", code="upstream_truncated"
                )
            if attempt is not None:
                self.breakers[attempt.upstream].succeeded()
        except UpstreamError as error:
            if attempt is not None:
                attempt.ended("failed", error.status, error.code)
                self.breakers[attempt.upstream].failed()
            raise
        except BaseException:
            if attempt is not None:
                attempt.ended("cancelled", 499, "cancelled")
            raise
        finally:
            if attempt is not None:
                attempt.latency_s = clock() - attempt.started_s
            await rest.aclose()

    async def _run(
        self,
        query: Query,
        selection: Selection,
        trace: Trace,
        ask: Callable[[Provider, UpstreamCall, Attempt, Place], Awaitable[T]],
        timeout_of: Callable[[Upstream], float],
    ) -> T:
        """Run the one loop: routes in order, each asked again as the budget allows."""
        deadline_s = time.monotonic() + self.config.total_timeout_s
        last: UpstreamError | None = None
        resting_s: float | None = None
        for route in self.balancer.ordered(selection.routes, stream=query.stream):
            if route.upstream.name not in self.providers:
                continue
            breaker = self.breakers[route.upstream.name]
            retries = 0
            while len(trace.attempts) < self.config.max_attempts:
                if not breaker.allows():
                    resting_s = least(resting_s, breaker.retry_after_s())
                    trace.fallback_reason = trace.fallback_reason or "breaker_open"
                    break
                try:
                    return await self._attempt(
                        query, selection, trace, route, ask, timeout_of(route.upstream), deadline_s
                    )
                except UpstreamError as error:
                    last = error
                pause_s = self._pause(last, retries)
                if pause_s is not None and time.monotonic() + pause_s >= deadline_s:
                    pause_s = None
                update_breaker(breaker, last, again=pause_s is not None)
                if not last.falls_back:
                    raise last
                if pause_s is None:
                    break
                retries += 1
                await asyncio.sleep(pause_s)
            if last is not None:
                trace.fallback_reason = trace.fallback_reason or last.code
            if time.monotonic() >= deadline_s:
                break
        raise last or none_available(selection, resting_s)

    def _begin(self, route: Route, trace: Trace, query: Query) -> Attempt:
        up = route.upstream
        attempt = Attempt(up.name, up.provider, route.tier, route.model, time.monotonic())
        trace.attempts.append(attempt)
        self.balancer.began(up.name, stream=query.stream)
        return attempt

    def _end(
        self, attempt: Attempt, trace: Trace, query: Query, outcome: str, status: int, code: str
    ) -> None:
        attempt.ended(outcome, status, code)
        attempt.latency_s = time.monotonic() - attempt.started_s
        trace.upstream_s += attempt.latency_s
        took_s, ok = attempt.latency_s, outcome != "failed"
        self.balancer.ended(attempt.upstream, took_s, stream=query.stream, ok=ok)

    async def _attempt(
        self,
        query: Query,
        selection: Selection,
        trace: Trace,
        route: Route,
        ask: Callable[[Provider, UpstreamCall, Attempt, Place], Awaitable[T]],
        timeout_s: float,
        deadline_s: float,
    ) -> T:
        """Ask one upstream once.

        Raises: UpstreamError; UpstreamFull before anything was asked.
        """
        name = route.upstream.name
        breaker, provider = self.breakers[name], self.providers.get(name)
        if provider is None:  # taken out of service since the route was chosen
            raise UpstreamMissing(f"{name} is out of service")
        try:
            place = await self.places[name].take(deadline_s - time.monotonic())
        except asyncio.CancelledError:
            breaker.released()
            raise
        attempt = self._begin(route, trace, query)
        limit_s = min(timeout_s, deadline_s - attempt.started_s)
        failed: UpstreamError
        try:
            async with asyncio.timeout(limit_s) as clock:
                call = self._calls.build(query, selection, route, trace, deadline_s)
                call.waits = stopping(clock, limit_s, deadline_s)
                result = await ask(provider, call, attempt, place)
        except UpstreamError as error:
            failed = error
        except TimeoutError:
            failed = too_slow(route, limit_s, stream=query.stream)
        except BaseException:
            self._end(attempt, trace, query, "cancelled", 499, "cancelled")
            breaker.released()
            place.release()
            raise
        else:
            self._end(attempt, trace, query, "ok", 200, "")
            if isinstance(result, Opened):
                breaker.released()  # `frames` knows how it ends
            else:
                breaker.succeeded()
                place.release()
            _serve(trace, route, attempt)
            return result
        place.release()
        self._end(attempt, trace, query, "failed", failed.status, failed.code)
        raise failed

    def _pause(self, error: UpstreamError, retries: int) -> float | None:
        """Return the seconds before the same upstream is tried again; None: not again."""
        if not error.retryable or retries >= self.config.retries:
            return None
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)
        pause_s = self.config.retry_base_s * float(2**retries) * jitter
        if error.retry_after_s is not None:
            if error.retry_after_s > self.config.retry_after_max_s:
                return None
            return max(error.retry_after_s, 0.0)
        return pause_s

    def _first_token_timeout(self, upstream: Upstream) -> float:
        return upstream.first_token_timeout_s or self.config.first_token_timeout_s

    def _answer_timeout(self, upstream: Upstream) -> float:
        return max(self.config.answer_timeout_s, upstream.first_token_timeout_s or 0.0)

    async def close(self) -> None:
        """Close every provider."""
        for provider in self.providers.values():
            await provider.close()


async def nothing() -> AsyncGenerator[Frame]:
    """Yield no frame: the rest of a stream that is here already."""
    frames: tuple[Frame, ...] = ()
    for frame in frames:
        yield frame


def has_token(chunk: dict[str, Any]) -> bool:
    """Return whether a chunk carries a piece of any choice's text, or a choice's end."""
    for choice in chunk.get("choices") or ():
        if choice.get("finish_reason"):
            return True
        delta = choice.get("delta")
        if any(texts(delta)) if isinstance(delta, dict) else choice.get("text"):
            return True
    return False


def _serve(trace: Trace, route: Route, attempt: Attempt) -> None:
    trace.tier_served = route.tier
    trace.provider = route.upstream.provider
    trace.upstream = route.upstream.name
    trace.model = route.model
    trace.revision = route.upstream.revision
    if len(trace.attempts) == 1 and not trace.fallback_reason:
        trace.fallback_reason = route.reason
    if attempt.ttft_s is not None:
        trace.ttft_s = attempt.ttft_s
