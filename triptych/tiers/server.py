"""Start the gateway: bind its port, bring the database up to date, run the workers."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.config import environment
from triptych.config.gateway import GatewayConfig
from triptych.errors import StorageError
from triptych.processes import bind
from triptych.secrets import FirstAdmin
from triptych.tiers.workers import Workers, start_logging, work

if TYPE_CHECKING:
    from triptych.tiers.store.database import Database

logger = logging.getLogger("triptych.gateway")

KEY_VARIABLE = "TRIPTYCH_GATEWAY_ADMIN_KEY"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def admin_key_file() -> Path:
    """Return where the first start leaves the admin key, readable by its owner only."""
    return environment.home() / "gateway" / "admin-key"


def serve(config: GatewayConfig, sources: str = "") -> int:
    """Answer requests until SIGTERM or Ctrl-C.

    `sources` names the function that makes the sources of knowledge (`workers.sources_of`).

    Raises: ProcessError when the port is taken, StorageError when another gateway runs here.
    """
    start_logging()
    if config.workers == 1:
        return work(config, _opened(config), sources)
    folder = environment.home() / "gateway" / "workers" / str(config.port)
    with Workers(folder) as workers:
        return workers.run(config, _opened(config), sources)


def _opened(config: GatewayConfig) -> socket.socket:
    listener = bind(config.host, config.port, option="--set gateway.port=")
    host, port = listener.getsockname()[:2]
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    asyncio.run(_prepare(config))
    print(f"gateway on {where}/v1 (admin key in {admin_key_file()})", file=sys.stderr, flush=True)
    return listener


async def _prepare(config: GatewayConfig) -> None:
    """Bring the schema up to date and see that there is an admin key.

    Raises: StorageError when the database is away at the very first start; later starts go on
    with the last good settings. UsageError for an admin key that could be guessed.
    """
    from triptych.tiers.pipeline.cluster.node import name_of
    from triptych.tiers.rules.accounts import new_key
    from triptych.tiers.store import accounts, migrations
    from triptych.tiers.store.cluster import nodes
    from triptych.tiers.store.database import Database

    path = admin_key_file()
    database = Database(config.database_url)
    try:
        await migrations.upgrade(database)
        if config.require_row_level_security:
            await _require_row_level_security(database)
        # what this node left when it was killed, its workers bring in now
        await nodes.leave(database, name_of(config, environment.home()))
        if not await accounts.has_admin(database):
            first = FirstAdmin("admin key", KEY_VARIABLE, path, new_key)
            key = first.write(first.chosen(empty_allowed=config.host in _LOOPBACK))
            await accounts.create_key(
                database, name="first admin", role="admin", key=key, actor="first start"
            )
    except (StorageError, OSError) as error:
        refused = (*migrations.REFUSED, "role_bypasses_security")
        if not path.exists() or getattr(error, "code", "") in refused:
            raise
        logger.warning("the database is away: %s", error)
    finally:
        await database.close()


async def _require_row_level_security(database: Database) -> None:
    """Refuse a database role that sees every company's rows.

    Raises: StorageError.
    """
    from triptych.tiers.store.cluster import partitions

    if await partitions.bypasses_row_level_security(database):
        raise StorageError(
            f"the database role {database.url.username} bypasses row-level security",
            hint="give the gateway a role of its own: psql -f deploy/postgres.sql; or set"
            " gateway.require_row_level_security=false",
            code="role_bypasses_security",
        )
