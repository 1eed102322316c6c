"""Answers kept in memory: exact matches only, bounded by bytes, one flight per question.

Only a question that asks for the same answer again (temperature 0, or a seed) is kept, never one
with tools, never an error. The key holds everything that could change the answer or whose it is:
company, user, routes, flags, prompt versions, parameters, messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from triptych.tiers.rules.query import Query, TokensSource
from triptych.tiers.rules.selector import Selection
from triptych.wire import lenient_json

_OVERHEAD_BYTES = 400


@dataclass(slots=True)
class _Kept:
    raw: bytes
    revision: str
    route: tuple[str, str, str, str]
    tokens_source: TokensSource
    expires_s: float


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer from memory, and the route that once gave it."""

    body: dict[str, Any]
    revision: str
    tokens_source: TokensSource
    tier: str
    provider: str
    upstream: str
    model: str


class AnswerCache:
    """Keep answers for a while and let identical questions share one flight."""

    def __init__(
        self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes = max_bytes
        self.ttl_s = ttl_s
        self.bytes = 0
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._flights: dict[bytes, asyncio.Future[None]] = {}

    def key(
        self, query: Query, selection: Selection, flags: object, versions: object
    ) -> bytes | None:
        """Name a question; None when its answer must not be kept."""
        params = query.params
        if not self.max_bytes or not (params.get("temperature") == 0 or "seed" in params):
            return None
        if "tools" in params or "functions" in params or params.get("n", 1) != 1:
            return None
        routes = [(r.upstream.name, r.upstream.revision, r.tier, r.model) for r in selection.routes]
        whole = (
            query.company_id,
            query.user_id,
            query.kind,
            query.tier_asked,
            routes,
            flags,
            versions,
            params,
            query.messages,
            selection.contexts.company,
            selection.contexts.abstraction,
        )
        try:
            name = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            return None  # lone surrogates and the like: rare, and answered afresh
        return hashlib.sha256(name).digest()

    def get(self, key: bytes) -> Hit | None:
        """Return a kept answer that has not grown old."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.expires_s < self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return Hit(lenient_json.loads(kept.raw), kept.revision, kept.tokens_source, *kept.route)

    def put(
        self,
        key: bytes,
        body: dict[str, Any],
        revision: str,
        route: tuple[str, str, str, str],
        tokens_source: TokensSource = "provider",
    ) -> None:
        """Keep an answer; the least recently used ones are dropped for it."""
        choices = body.get("choices") or [{}]
        message = choices[0].get("message") or {}
        finished = choices[0].get("finish_reason") in ("stop", "length")
        if not finished or len(choices) != 1 or message.get("tool_calls"):
            return
        raw = lenient_json.dumps(body)
        size = len(raw) + _OVERHEAD_BYTES
        if size > self.max_bytes // 8:
            return
        self._drop(key)
        self._kept[key] = _Kept(raw, revision, route, tokens_source, self._clock() + self.ttl_s)
        self.bytes += size
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= len(kept.raw) + _OVERHEAD_BYTES

    def clear(self) -> None:
        """Forget everything: a company or a user was erased."""
        self._kept.clear()
        self.bytes = 0

    async def fly(self, key: bytes, work: Callable[[], Awaitable[None]]) -> Hit | None:
        """Do the work once for all equal requests that run at the same time.

        Returns: the answer when another request's flight brought it; None after the own one.
        """
        while (flight := self._flights.get(key)) is not None:
            await asyncio.shield(flight)
            if (hit := self.get(key)) is not None:
                return hit
        self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            await work()
        finally:
            # A failed flight brings nothing: the next of those who wait tries for itself.
            self._flights.pop(key).set_result(None)
        return None
