"""What a worker's circuit breakers tell those of all other workers and nodes, with each poll.

A rate limit or a quota, which the upstream itself stated, is kept by all. A row of failures may be
one node's own trouble, so others only let a single request probe it: of many workers each asks
once, where each would have failed several times.
"""

from __future__ import annotations

from triptych.tiers.pipeline.breaker import News
from triptych.tiers.pipeline.dispatch import Dispatcher
from triptych.tiers.store.cluster import breaker_news
from triptych.tiers.store.database import Database


class BreakerNews:
    """Exchange news with the other workers; a worker alone on its database has none."""

    def __init__(self, database: Database, dispatcher: Dispatcher, worker: str) -> None:
        self._database = database
        self._breakers = dispatcher.breakers
        self._alone = database.is_sqlite and dispatcher.config.workers == 1
        self._worker = worker
        self._untold: dict[str, tuple[News, float]] = {}
        self._seen: dict[str, float] = {}
        dispatcher.on_news = self.tell

    def tell(self, upstream: str, news: News, seconds: float = 0.0) -> None:
        """Note what happened to an upstream here; the next poll carries it to the others."""
        if not self._alone:
            self._untold[upstream] = (news, seconds)

    async def exchange(self) -> None:
        """Write this worker's news and heed those of the others.

        Raises: StorageError; what was not written is written with the next poll.
        """
        if self._alone:
            return
        untold, self._untold = self._untold, {}
        try:
            if untold:
                await breaker_news.tell(self._database, untold, self._worker)
            rows = await breaker_news.read(self._database)
        except BaseException:
            self._untold = untold | self._untold
            raise
        for row in rows:
            name, changed_at = row["upstream"], float(row["changed_at"])
            if self._seen.get(name) == changed_at:
                continue
            self._seen[name] = changed_at
            breaker = self._breakers.get(name)
            if breaker is not None and row["worker"] != self._worker:
                breaker.heed(row["news"], row["left_s"])
