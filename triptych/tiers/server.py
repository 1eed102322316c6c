"""Start the gateway's worker processes on one address, and stop them without dropping a request.

One worker runs in this process. Several are children that share the listening socket; each is
restarted when it dies, and what it left in its spool is brought in by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.config import environment
from triptych.config.gateway import GatewayConfig
from triptych.errors import StorageError, UsageError
from triptych.secrets import FirstAdmin

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger("triptych.gateway")

GRACE_S = 30
KEY_VARIABLE = "TRIPTYCH_GATEWAY_ADMIN_KEY"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def admin_key_file() -> Path:
    """Return where the first start leaves the admin key, readable by its owner only."""
    return environment.home() / "gateway" / "admin-key"


def serve(config: GatewayConfig, file: str | None = None, overrides: Sequence[str] = ()) -> int:
    """Answer requests until SIGTERM or Ctrl-C.

    Raises: UsageError when the port is taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    listener = listen(config.host, config.port)
    host, port = listener.getsockname()[:2]
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    asyncio.run(_prepare(config))
    print(f"gateway on {where}/v1 (admin key in {admin_key_file()})", file=sys.stderr, flush=True)
    if config.workers == 1:
        return _work(config, listener)
    return _supervise(config, listener)


def listen(host: str, port: int) -> socket.socket:
    """Bind the address.

    Raises: UsageError when it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another with --set gateway.port=7871",
        ) from error
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


async def _prepare(config: GatewayConfig) -> None:
    """Bring the schema up to date and see that there is an admin key.

    Raises: StorageError when the database is away at the very first start; later starts go on
    with the last good settings. UsageError for an admin key that could be guessed.
    """
    from triptych.tiers.rules.accounts import new_key
    from triptych.tiers.store import accounts, migrations
    from triptych.tiers.store.database import Database

    path = admin_key_file()
    database = Database(config.database_url)
    try:
        await migrations.upgrade(database)
        if not await accounts.has_admin(database):
            first = FirstAdmin("admin key", KEY_VARIABLE, path, new_key)
            key = first.write(first.chosen(empty_allowed=config.host in _LOOPBACK))
            await accounts.create_key(
                database, name="first admin", role="admin", key=key, actor="first start"
            )
    except (StorageError, OSError) as error:
        if not path.exists():
            raise
        logger.warning("the database is away: %s", error)
    finally:
        await database.close()


def options(app: Any, **changes: Any) -> uvicorn.Config:
    """Describe how a worker speaks HTTP."""
    import uvicorn

    from triptych.tiers.http.protocol import HttpProtocol

    chosen: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "date_header": False,
        # behind a proxy its address counts: a header must not make another caller
        "proxy_headers": False,
        "lifespan": "on",
        "http": HttpProtocol,
        "loop": "uvloop",
        "timeout_graceful_shutdown": GRACE_S,
        "timeout_keep_alive": 75,
        "backlog": 2048,
    }
    return uvicorn.Config(app, **chosen | changes)


def _work(config: GatewayConfig, listener: socket.socket) -> int:
    import uvicorn

    from triptych.tiers.api import Gateway
    from triptych.tiers.pipeline.runtime import Runtime

    uvicorn.Server(options(Gateway(Runtime(config)))).run(sockets=[listener])
    return 0


def _supervise(config: GatewayConfig, listener: socket.socket) -> int:
    """Keep the configured number of workers alive; pass on the signal that ends us."""
    children: set[int] = set()
    stopping = False

    def stop(number: int, _: object) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while True:
        while not stopping and len(children) < config.workers:
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os._exit(_work(config, listener))
            children.add(child)
        if not children:
            return 0
        done, _ = os.wait()
        children.discard(done)
        if not stopping:
            logger.warning("worker %d died and is replaced", done)


__all__ = ["admin_key_file", "listen", "options", "serve"]
