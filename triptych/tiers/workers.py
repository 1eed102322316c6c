"""The gateway's worker processes: one serves here, several share one listening socket.

Several workers are children of a `Supervisor`: one that dies is started again after a pause, and
what it left in its spool is brought in by the next one. A child gets the socket and the resolved
configuration as inherited file descriptors, so that a restarted worker runs with the settings of
the first, and no secret of them is in an argument or a file with a name.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from triptych.config.gateway import GatewayConfig
from triptych.config.loader import to_dict
from triptych.durable import Closing
from triptych.processes import Backoff, Command, Status, Supervisor
from triptych.wire.evidence import KnowledgeSource

if TYPE_CHECKING:
    import uvicorn

    from triptych.tiers.api import Gateway

logger = logging.getLogger("triptych.gateway")

# Beyond the answers under way, a worker needs time to bring its spool into the database.
_FLUSH_S = 30.0
_BACKOFF = Backoff(first_s=0.1, ceiling_s=10.0, attempts=20, healthy_s=10.0)


def options(app: Gateway, **changes: Any) -> uvicorn.Config:
    """Return uvicorn's settings for a worker."""
    import uvicorn

    from triptych.tiers.http.protocol import limited

    chosen: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "date_header": False,
        # behind a proxy its address counts: a header must not make another caller
        "proxy_headers": False,
        "lifespan": "on",
        "http": limited(app.runtime.connections),
        "loop": "uvloop",
        "timeout_graceful_shutdown": app.runtime.config.drain_s,
        "timeout_keep_alive": 75,
        "backlog": 2048,
    }
    return uvicorn.Config(app, **chosen | changes)


def start_logging() -> None:
    """Write the gateway's log to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)


def work(
    config: GatewayConfig,
    listener: socket.socket,
    sources: str = "",
    worker: str = "1",
    sockets: str = "",
) -> int:
    """Serve in this process until SIGTERM or Ctrl-C; `sources` as in `sources_of`.

    `worker` names this process on its node, `sockets` the folder in which the workers of a node
    find each other.
    """
    from triptych.tiers.api import Gateway
    from triptych.tiers.draining import DrainingServer
    from triptych.tiers.pipeline.runtime import Runtime

    known = sources_of(sources)
    gateway = Gateway(Runtime(config, sources=known, worker=worker, sockets=sockets))
    DrainingServer(options(gateway), gateway.runtime).run(sockets=[listener])
    return 0


def sources_of(name: str) -> Mapping[str, KnowledgeSource]:
    """Return what the function `module:name` makes: the sources of knowledge, by tier.

    A name goes to every worker process, so that the gateway imports no source itself.
    """
    if not name:
        return {}
    module, function = name.split(":")
    make: Callable[[], Mapping[str, KnowledgeSource]] = getattr(
        importlib.import_module(module), function
    )
    return make()


class Workers(Closing):
    """The supervised worker processes of one gateway.

    Opening ends the workers that a killed gateway left behind, so that their port is free.

    Raises: StorageError when another live gateway has the folder.
    """

    def __init__(self, folder: Path, backoff: Backoff = _BACKOFF) -> None:
        self._backoff = backoff
        # SimpleQueue.put may be called in a signal handler; locks and events may not.
        self._news: SimpleQueue[Status | None] = SimpleQueue()
        self._supervisor = Supervisor(folder, on_change=self._news.put)

    def run(self, config: GatewayConfig, listener: socket.socket, sources: str = "") -> int:
        """Keep the configured number of workers running until SIGTERM or Ctrl-C.

        Returns: the exit code; 1 when every worker ended too often in a row.
        """
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, lambda *_: self._news.put(None))
        # a short path: that of a socket may have some hundred bytes
        folder = tempfile.TemporaryDirectory(prefix="triptych-")
        with listener, tempfile.TemporaryFile() as settings, folder as sockets:
            settings.write(json.dumps(to_dict(config)).encode())
            settings.flush()
            for number in range(config.workers):
                self._supervisor.start(
                    _command(
                        f"worker-{number + 1}", listener, settings.fileno(),
                        (sources, str(number + 1), sockets), config,
                    ),
                    backoff=self._backoff,
                )  # fmt: skip
            # Closed here first: while the workers stop, new connections are refused, not queued.
            return self._watch()

    def close(self) -> None:
        """Stop the workers: each finishes the answers under way and writes their records."""
        self._supervisor.close()

    def _watch(self) -> int:
        left = {status.name for status in self._supervisor.statuses()}
        while (status := self._news.get()) is not None:
            if status.state == "waiting":
                logger.warning("%s died: %s", status.name, status.reason)
            elif status.state == "exited":
                logger.error("%s is given up: %s", status.name, status.reason)
                left.discard(status.name)
                if not left:
                    return 1
        return 0


def _command(
    name: str,
    listener: socket.socket,
    settings: int,
    names: tuple[str, str, str],
    config: GatewayConfig,
) -> Command:
    numbers = (listener.fileno(), settings)
    return Command(
        name,
        [sys.executable, "-m", "triptych.tiers.workers", *map(str, numbers), *names],
        log=None,
        grace_s=config.drain_notice_s + config.drain_s + _FLUSH_S,
        inherited=numbers,
    )


def main(arguments: list[str]) -> int:
    """Serve as a child of `Workers`: two inherited file descriptors, then names as in `work`."""
    listener, settings = map(int, arguments[:2])
    start_logging()
    # pread, because all workers share one file position
    text = os.pread(settings, os.fstat(settings).st_size, 0)
    config = TypeAdapter(GatewayConfig).validate_json(text)
    return work(config, socket.socket(fileno=listener), *arguments[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
