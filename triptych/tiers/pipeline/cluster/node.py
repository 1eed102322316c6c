"""This machine among others on one database: its name, its signs of life, the schema it finds."""

from __future__ import annotations

import logging
import secrets
import time
from pathlib import Path

import triptych
from triptych.config.gateway import GatewayConfig
from triptych.durable import FolderLock, write_atomic
from triptych.errors import StorageError
from triptych.tiers.store import migrations
from triptych.tiers.store.cluster import nodes, partitions
from triptych.tiers.store.database import Database
from triptych.tiers.store.recorder import Recorder

logger = logging.getLogger("triptych.gateway")

_BEAT_S = 5.0
_DAYS_EVERY_S = 3600.0


class Node:
    """Keep one worker's row among the machines; with a database of its own there is none."""

    def __init__(
        self, config: GatewayConfig, home: Path, database: Database, recorder: Recorder, worker: str
    ) -> None:
        self.name = name_of(config, home)
        self.worker = worker
        self.newer_schema = ""
        """The schema of the database, while it is newer than the one that this program knows."""
        self.bypasses_security = False
        """Whether the database's role sees the rows of every company, whatever a statement says."""
        self._next_days_s = 0.0
        self._database = database
        self._recorder = recorder
        self._started_at = time.time()
        self._next_s = 0.0
        recorder.node = self.name

    async def beat(self) -> None:
        """Leave a sign of life when it is time, and see whether the schema moved on.

        Raises: StorageError.
        """
        now = time.monotonic()
        if self._database.is_sqlite or now < self._next_s:
            return
        self._next_s = now + _BEAT_S
        await self._make_days(now)
        known, found = migrations.newest(), await nodes.schema_of(self._database)
        if found > known and not self.newer_schema:
            logger.warning(
                "the database is at schema %s, this program knows %s: it goes on, and records that"
                " no longer fit wait in the spool; start the newer triptych here", found, known,
            )  # fmt: skip
        self.newer_schema = found if found > known else ""
        spool = self._recorder.spool
        row = {
            "node": self.name,
            "worker": self.worker,
            "version": triptych.__version__,
            "schema": known,
            "started_at": self._started_at,
            "waiting": min(spool.backlog_bytes, 2**31 - 1),
            "lost": spool.lost,
        }
        await nodes.beat(self._database, row)

    async def _make_days(self, now: float) -> None:
        """Make the coming days of the record, once an hour; without one there is another place."""
        if now < self._next_days_s:
            return
        self._next_days_s = now + _DAYS_EVERY_S
        self.bypasses_security = await partitions.bypasses_row_level_security(self._database)
        if self.bypasses_security:
            logger.error(
                "the database role bypasses row-level security: a mistake in a statement would"
                " show rows of other companies; give the gateway a role of its own"
                " (deploy/postgres.sql)"
            )
        try:
            await partitions.ensure(self._database, time.time())
        except StorageError as error:
            logger.warning("the coming days of the record are not made: %s", error.message)

    async def leave(self) -> None:
        """Take the row away, unless records stay behind in the spool."""
        if self._database.is_sqlite or self._recorder.oldest_s:
            return
        try:
            await nodes.leave(self._database, self.name, self.worker)
        except (StorageError, OSError) as error:
            logger.warning("this node stays listed: %s", error)


def name_of(config: GatewayConfig, home: Path) -> str:
    """Return the configured name of this machine, or the one that its home keeps, made if need be.

    Raises: OSError.
    """
    if config.node:
        return config.node
    path = home / "gateway" / "node"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FolderLock(path.with_name(f".{path.name}.lock")).wait():
            if not path.exists():
                write_atomic(path, f"node-{secrets.token_hex(4)}\n".encode())
    return path.read_text("utf-8").strip()[:64]
