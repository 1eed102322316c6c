"""Send a challenger copies of questions that were answered, and count what it did with them.

A copy has no side effects: nothing of it is billed, cached, kept as content or counted in limits,
budgets, breakers and usage, and its answer reaches no user. At most `_AT_ONCE` copies run in a
worker; what comes meanwhile is not copied. Left out: what follows from the counts (the loop).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, delete, select

from triptych.config.gateway import GatewayConfig
from triptych.errors import NoProviderAvailable, OutputBlocked, StorageError, UpstreamError
from triptych.tiers.pipeline.calls import CallBuilder
from triptych.tiers.pipeline.dispatch import Dispatcher
from triptych.tiers.pipeline.exchange import Exchange
from triptych.tiers.rules import filters
from triptych.tiers.rules.filters import OutputFilter
from triptych.tiers.rules.query import Trace
from triptych.tiers.rules.selector import Route
from triptych.tiers.store.database import Database, across
from triptych.tiers.store.schema import metadata
from triptych.wire import openai as shapes
from triptych.wire.refusals import is_refusal
from triptych.wire.tiers import TIERS

logger = logging.getLogger("triptych.gateway")
_SCOPE = across("copies carry no company")
_AT_ONCE = 4
# Rows that wait for a database that is away.
_MOST_ROWS = 1000
_KEPT_S = 90 * 86_400.0


table = Table(
    "shadows",
    metadata,
    Column("shadow_id", Integer, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("tier", String(16), nullable=False),
    Column("upstream", String(64), nullable=False),
    Column("model", String(128), nullable=False),
    Column("error_code", String(64), nullable=False),
    Column("latency_s", Float, nullable=False),
    Column("served_s", Float, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("served_refused", Boolean, nullable=False),
    Column("agreement", Float, nullable=False),
    Index("ix_shadows_tier", "tier", "created_at"),
)
"""Copies of questions that a challenger was sent. No person, no company and no text is in a row."""


class ShadowCopies:
    """Run one worker's copies."""

    def __init__(
        self, database: Database, dispatcher: Dispatcher, calls: CallBuilder, config: GatewayConfig
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._calls = calls
        self._config = config
        self._running: set[asyncio.Task[None]] = set()
        self._rows: deque[dict[str, Any]] = deque(maxlen=_MOST_ROWS)
        self._writing: asyncio.Task[None] | None = None
        self.not_copied = 0
        """How many questions came while as many copies ran as may."""

    def offer(
        self, exchange: Exchange, routes: tuple[Route, ...], output_filter: OutputFilter | None
    ) -> None:
        """Send the first of these routes a copy of an answered question, or none now."""
        if not routes or exchange.trace.upstream == routes[0].upstream.name:
            return
        if len(self._running) >= _AT_ONCE:
            self.not_copied += 1
            return
        task = asyncio.create_task(self._copy(exchange, routes[0], output_filter))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _copy(
        self, exchange: Exchange, route: Route, output_filter: OutputFilter | None
    ) -> None:
        served = exchange.answer.text
        row: dict[str, Any] = {
            "created_at": time.time(),
            "tier": route.tier,
            "upstream": route.upstream.name,
            "model": route.model,
            "served_s": exchange.latency_s,
            "served_refused": is_refusal(served),
        }
        started_s = time.monotonic()
        text, error_code = await self._ask(exchange, route, output_filter)
        row |= {
            "error_code": error_code,
            "latency_s": time.monotonic() - started_s,
            "refused": not error_code and is_refusal(text),
            "agreement": agreement(served, text),
        }
        self._rows.append(row)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Write what was counted meanwhile, many rows in one transaction; a lost row is no harm."""
        while self._rows:
            rows = [self._rows.popleft() for _ in range(len(self._rows))]
            c = table.c
            old = c.tier.in_(TIERS) & (c.created_at < time.time() - _KEPT_S)
            try:
                async with self._database.write(_SCOPE) as connection:
                    await connection.execute(table.insert(), rows)
                    await connection.execute(delete(table).where(old))
            except (StorageError, OSError) as error:
                logger.warning("%d shadow copies are not counted: %s", len(rows), error)

    async def _ask(
        self, exchange: Exchange, route: Route, output_filter: OutputFilter | None
    ) -> tuple[str, str]:
        """Return the challenger's answer and an error code, one of which is empty."""
        selection, limit_s = exchange.selection, self._config.answer_timeout_s
        provider = self._dispatcher.providers.get(route.upstream.name)
        if provider is None or selection is None:
            return "", NoProviderAvailable.default_code
        try:
            deadline_s = time.monotonic() + limit_s
            call = self._calls.build(exchange.query, selection, route, Trace(), deadline_s)
            async with asyncio.timeout(limit_s):
                completion = await provider.complete(call)
            text = shapes.answer_text(completion.body)
            if output_filter is not None:
                filters.check(text, output_filter)
        except (UpstreamError, OutputBlocked) as error:
            return "", error.code
        except TimeoutError:
            return "", "upstream_timeout"
        return text, ""

    async def listed(self, tier: str, since: float, limit: int) -> list[dict[str, Any]]:
        """Return a tier's copies since a moment in Unix seconds, newest first."""
        s = table.c
        statement = (
            select(table)
            .where(s.tier == tier, s.created_at >= since)
            .order_by(s.created_at.desc())
            .limit(limit)
        )
        async with self._database.read(_SCOPE) as connection:
            return await connection.all(statement)

    async def close(self) -> None:
        """Stop every copy that runs."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._writing is not None:
            await self._writing


def agreement(one: str, other: str) -> float:
    """Return the share of words that two texts have in common, 0 to 1."""
    first, second = set(one.lower().split()), set(other.lower().split())
    return len(first & second) / max(1, len(first | second))
