"""Everything one gateway worker holds: built once, refreshed when the database says so.

Order of birth: database and schema, record, settings, providers. Order of death: the reverse,
with the record drained last.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from triptych.config import environment
from triptych.config.gateway import GatewayConfig
from triptych.errors import StorageError, TriptychError, Unauthenticated
from triptych.processes import BackgroundTask
from triptych.secrets import Vault
from triptych.tiers.pipeline.accounts import AccountCache
from triptych.tiers.pipeline.background import BackgroundTasks
from triptych.tiers.pipeline.cache import AnswerCache
from triptych.tiers.pipeline.calls import CallBuilder
from triptych.tiers.pipeline.cluster.breaker_news import BreakerNews
from triptych.tiers.pipeline.cluster.node import Node
from triptych.tiers.pipeline.cluster.worker_metrics import WorkerMetrics, families_of
from triptych.tiers.pipeline.dispatch import Dispatcher
from triptych.tiers.pipeline.exchange import Exchange, Observers
from triptych.tiers.pipeline.key_limits import KeyLimiter
from triptych.tiers.pipeline.last_good import LastGood
from triptych.tiers.pipeline.shadow import ShadowCopies
from triptych.tiers.pipeline.telemetry import Metrics, Tracing
from triptych.tiers.providers.base import Provider
from triptych.tiers.providers.factory import Factory
from triptych.tiers.rules import catalogue as catalogues
from triptych.tiers.rules.accounts import Company, KeyRing, Principal
from triptych.tiers.rules.budgets import BudgetLedger, Budgets
from triptych.tiers.rules.catalogue import Catalogue, Upstream
from triptych.tiers.rules.classifier import NgramClassifier
from triptych.tiers.rules.connections import ConnectionLimits
from triptych.tiers.rules.consent import Consents
from triptych.tiers.rules.filters import OutputFilter, PatternFilter
from triptych.tiers.rules.flags import Flags
from triptych.tiers.rules.limits import Limiter, WrongKeys
from triptych.tiers.rules.pricing import Cost, PriceList
from triptych.tiers.rules.query import Trace
from triptych.tiers.rules.selector import NAMED, Classifier, Route, Selector
from triptych.tiers.store import audit, migrations, settings
from triptych.tiers.store.budgets import reserve
from triptych.tiers.store.database import Database
from triptych.tiers.store.recorder import Recorder
from triptych.wire.evidence import KnowledgeSource
from triptych.wire.tiers import TIERS

logger = logging.getLogger("triptych.gateway")


class Runtime:
    """Hold the parts of one worker and keep them in step with the database."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        home: Path | None = None,
        classifier: Classifier | None = None,
        sources: Mapping[str, KnowledgeSource] | None = None,
        worker: str = "1",
        sockets: str = "",
    ) -> None:
        self.config = config
        self.home = home or environment.home()
        url = config.database_url or f"sqlite+aiosqlite:///{self.home / 'gateway.db'}"
        self.database = Database(url)
        self.recorder = Recorder(
            self.database,
            self.home / "gateway" / "spool",
            max_bytes=config.spool_bytes,
            interval_s=config.flush_interval_s,
        )
        self.metrics = Metrics()
        self.node = Node(config, self.home, self.database, self.recorder, worker)
        self.worker_metrics = WorkerMetrics(self.node.name, worker, sockets, self._families)
        self.observers = Observers(self.recorder.spool, self.metrics, price=self._price)
        self.flags = Flags(killed_flags())
        self.keys = KeyRing(anonymous_allowed=config.anonymous)
        self.limiter = Limiter(config)
        self.wrong_keys = WrongKeys(config)
        self.key_limits = KeyLimiter(config)
        self.connections = ConnectionLimits(config)
        self.cache = AnswerCache(config.cache_bytes, config.cache_ttl_s)
        self.output_filter: OutputFilter | None = (
            PatternFilter(config.blocked_patterns) if config.blocked_patterns else None
        )
        self.calls = CallBuilder()
        self.sources = sources or {}
        """Tier -> the knowledge that its answers rest on."""
        self.accounts = AccountCache(self.keys)
        self.prices = PriceList.load(config)
        self.budgets = Budgets()
        self.ledger = BudgetLedger(functools.partial(reserve, self.database))
        self.selector = Selector(
            Catalogue([]),
            config.provider_order,
            classifier or NgramClassifier.load(),
            sourced=self.sources,
        )
        self.dispatcher = Dispatcher(config, self.calls)
        self.news = BreakerNews(self.database, self.dispatcher, f"{self.node.name}/{worker}")
        self.shadows = ShadowCopies(self.database, self.dispatcher, self.calls, config)
        self.factory = Factory(config)
        self.vault = Vault(self.home / "gateway" / "secrets-key", audit.KEY_VARIABLE)
        self.background = BackgroundTasks(
            self.database, self.recorder, config, self.sources.values(),
            home=self.home, wrong_keys=self.wrong_keys,
        )  # fmt: skip
        self.declared = catalogues.from_config(config)
        self._last_good = LastGood(self.home / "gateway" / "settings.json")
        self._start_empty()

    def _start_empty(self) -> None:
        """Set what changes while the worker lives to what it is before anything was read."""
        self.ready = False
        self.draining = False
        """Whether the signal to stop came: answers under way go on, new requests go elsewhere."""
        self.unopened: frozenset[str] = frozenset()
        """Entered secrets that were sealed with another key than this node's."""
        self.out_of_service: tuple[str, ...] = ()
        """Upstreams that are not asked, because their key does not open here."""
        self._versions: dict[str, int] = {}
        self._rows: settings.Rows = {}
        self._migrated = False
        self._installed: dict[str, Upstream | None] = {}
        self._task = BackgroundTask("settings", self._poll, logger=logger)
        self._refreshing = asyncio.Lock()

    async def open(self) -> None:
        """Bring everything up, with the last good settings when the database is away."""
        self._rows = self._last_good.restore()
        try:
            await self._begin()
        except (StorageError, OSError) as error:
            logger.warning("starting without the database: %s", error)
            if self._rows:
                await self._apply(settings.TOPICS)
            else:
                await self._load_upstreams([])
            self.flags.stale = True
        await self.worker_metrics.open()
        self._task.start()
        self.background.start()
        if self.config.otlp_endpoint:
            self.observers.tracing = Tracing.sending(
                self.config.otlp_endpoint, content=self.config.trace_content
            )
        self.ready = True

    async def _begin(self) -> None:
        await migrations.upgrade(self.database)
        self._migrated = True
        await audit.anchor(self.database, self.home)
        await self.recorder.open()
        await self.refresh()
        await self.node.beat()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.config.poll_interval_s)
            try:
                await (self.refresh() if self._migrated else self._begin())
                await self.node.beat()
                await self.news.exchange()
                self._last_good.save_if_due()
                self._task.succeeded()
            except (TriptychError, OSError) as error:
                if not self.flags.stale:
                    logger.warning("settings are stale: %s", error)
                self.flags.stale = True

    async def refresh(self) -> None:
        """Read again what changed since the last poll.

        Raises: StorageError; everything stays as it was then.
        """
        # One poll after the other: a slower, earlier one must not lay old rows over newer ones.
        async with self._refreshing:
            versions = await settings.versions(self.database)
            changed = [t for t, v in versions.items() if self._versions.get(t) != v]
            rows = dict(self._rows)
            for topic in changed:
                known, now = self._versions.get(topic, 0), versions[topic]
                if topic == "accounts":
                    rows |= await self.accounts.read(self.database, rows, known, now)
                else:
                    rows |= await settings.read(self.database, topic)
            await self._take(versions, rows, changed)
            if changed:
                self._last_good.keep(versions, rows)
            self.flags.stale = False

    async def _take(
        self, versions: dict[str, int], rows: settings.Rows, changed: Iterable[str]
    ) -> None:
        """Let new rows take effect; what cannot be applied is read again with the next poll."""
        before = self._versions, self._rows
        self._versions, self._rows = versions, rows
        try:
            await self._apply(changed)
        except BaseException:
            self._versions, self._rows = before
            raise

    async def _apply(self, topics: Iterable[str]) -> None:
        """Let the rows of some topics take effect, from the next request on."""
        for topic in topics:
            if topic == "flags":
                self.flags.load(settings.flag_set(self._rows, self._versions.get("flags", 0)))
            elif topic == "accounts":
                self.accounts.apply(self._rows)
            elif topic == "budgets":
                self.budgets = settings.budgets(self._rows)
            elif topic == "prompts":
                self.calls.prompts = settings.active_prompts(self._rows)
            elif topic == "secrets":
                await self._load_secrets()
            elif topic == "upstreams":
                await self._load_upstreams(settings.entered_upstreams(self._rows))
            elif topic == "privacy":
                self._forget()

    async def _load_secrets(self) -> None:
        """Open the entered secrets, and build anew each upstream whose key changed."""
        sealed = settings.sealed_secrets(self._rows)
        before, now = self.factory.entered_keys, self.vault.open_all(sealed)
        self.factory.entered_keys = now
        changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        changed |= self.unopened ^ (sealed.keys() - now.keys())
        self.unopened = frozenset(sealed.keys() - now.keys())
        for name, upstream in self._installed.items():
            if upstream is not None and changed.intersection(upstream.all_key_names):
                self._installed[name] = None
        if changed:
            await self._load_upstreams(settings.entered_upstreams(self._rows))

    def _forget(self) -> None:
        """A user or company is being erased: drop what memory and the spool still hold."""
        self.cache.clear()
        self.recorder.spool.roll()
        self.background.wake()

    async def _load_upstreams(self, rows: Iterable[Mapping[str, Any]]) -> None:
        version = self._versions.get("upstreams", 0)
        found = {upstream.name: upstream for upstream in self.declared}
        for row in rows:
            if row["name"] in found:
                continue  # the operator's file wins over what was entered under the same name
            try:
                upstream = catalogues.entered(
                    row, private_allowed=self.config.allow_private_addresses
                )
                self.factory.check(upstream)
            except TriptychError as error:
                # One bad row must not keep every other change from this worker.
                logger.warning("upstream %s is left out: %s", row["name"], error.message)
                continue
            found[upstream.name] = upstream
        self.out_of_service = self._without_key(found.values())
        for name in self.out_of_service:
            del found[name]
        gone = [n for n, upstream in self._installed.items() if found.get(n) != upstream]
        retired = self.dispatcher.remove(gone)
        for name, upstream in found.items():
            if self._installed.get(name) != upstream:
                self.dispatcher.install(upstream, self.factory.build(upstream))
        self._installed = dict(found)
        self.selector.replace(Catalogue(found.values(), version))
        for provider in retired:
            await _retire(provider)

    def _without_key(self, upstreams: Iterable[Upstream]) -> tuple[str, ...]:
        """Return the upstreams whose key was entered and does not open: asked without it, they
        would refuse, or answer as for a stranger."""
        without = [
            upstream.name
            for upstream in upstreams
            if any(
                n in self.unopened and not self.factory.has_key(n) for n in upstream.all_key_names
            )
        ]
        for name in sorted(set(without) - set(self.out_of_service)):
            logger.error(
                "upstream %s is out of service: its key was sealed on another node; set the same"
                " %s on every node",
                name,
                audit.KEY_VARIABLE,
            )
        return tuple(sorted(without))

    def authenticate(self, authorization: str, address: str) -> Principal:
        """Turn an Authorization header into a principal; wrong keys are counted by address.

        Raises: Unauthenticated, LimitExceeded.
        """
        try:
            return self.keys.authenticate(authorization)
        except Unauthenticated as error:
            if error.code == Unauthenticated.default_code:
                self.metrics.wrong_keys.inc()
                self.wrong_keys.hit(address)
            raise

    @property
    def consents(self) -> Consents:
        """The newest word of every company and user on every purpose."""
        return self.accounts.consents

    def companies(self) -> Mapping[str, Company]:
        """Return every company as the selector sees it."""
        return settings.companies(self._rows)

    def challengers(self, exchange: Exchange) -> tuple[Route, ...]:
        """Return where copies of a question go: its tier's challengers, where its flag is on."""
        query, selection = exchange.query, exchange.selection
        if selection is None or selection.tier not in TIERS or query.tier_asked == NAMED:
            return ()
        flags = self.flags.resolve(query.user_id, query.company_id, query.feature)
        if not flags[f"shadow.{selection.tier}"]:
            return ()
        return self.selector.challengers(selection.tier, query, exchange.principal, flags)

    def shadow(self, exchange: Exchange) -> None:
        """Send the challenger of an answered question's tier a copy, where its flag is on."""
        self.shadows.offer(exchange, self.challengers(exchange), self.output_filter)

    def _price(self, trace: Trace, at: float) -> Cost:
        return self.prices.cost(trace, self.selector.catalogue.upstreams, at)

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of everything that shapes an answer besides the question."""
        return tuple(self._versions.values())

    @property
    def tasks(self) -> tuple[BackgroundTask, ...]:
        """The worker's background tasks."""
        return self.recorder.task, self._task, self.background.task

    def measure(self) -> bytes:
        """Write this worker's metrics, with the states of this moment."""
        self._families()
        return self.metrics.render()

    def _families(self) -> list[dict[str, Any]]:
        metrics, spool = self.metrics, self.recorder.spool
        metrics.spool_bytes.set(spool.backlog_bytes)
        metrics.lost.set(spool.lost)
        metrics.stale.set(self.flags.stale)
        metrics.oldest_record.set(self.recorder.oldest_s)
        metrics.connections.labels("open").set(self.connections.open)
        metrics.connections.labels("refused").set(self.connections.refused)
        metrics.connections.labels("timed_out").set(self.connections.timed_out)
        for task in self.tasks:
            metrics.failing_tasks.labels(task.name).set(bool(task.failing))
            metrics.task_failures.labels(task.name).set(task.failures)
        for name, breaker in self.dispatcher.breakers.items():
            metrics.breakers.labels(name).set(breaker.state != "closed")
        return families_of(metrics.registry)

    async def close(self) -> None:
        """Take everything down; the record is drained last."""
        self.ready = False
        await self._task.stop()
        self._last_good.save_if_due(now=True)
        await self.shadows.close()
        await self.worker_metrics.close()
        await self.background.close()
        for source in self.sources.values():
            await source.close()
        await self.dispatcher.close()
        await self.key_limits.close()
        await self.recorder.close()
        await self.node.leave()
        await self.database.close()
        if self.observers.tracing is not None:
            await asyncio.to_thread(self.observers.tracing.close)


def killed_flags() -> list[str]:
    """Read the kill switch: flags the environment holds off, whatever an admin set."""
    names = environment.get("TRIPTYCH_KILL", "") or ""
    return [name.strip() for name in names.split(",") if name.strip()]


async def _retire(provider: Provider) -> None:
    """Close a replaced provider when the requests it is answering are done."""
    asyncio.get_running_loop().call_later(300.0, lambda: asyncio.ensure_future(provider.close()))
