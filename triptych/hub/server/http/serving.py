"""Run the hub's application on a socket, say where it is, and stop it in good order."""

from __future__ import annotations

import dataclasses
import logging
import sys

import uvicorn
from starlette.types import ASGIApp

from triptych.config.hub import HubConfig
from triptych.hub.server.http.app import create_app
from triptych.hub.server.http.bodies.connection import SocketProtocol
from triptych.hub.server.layout import Layout
from triptych.processes import bind


def serve(config: HubConfig, *, log_level: str = "warning") -> int:
    """Serve until interrupted.

    Raises: ProcessError when the port is taken.
    """
    listener = bind(config.host, config.port)
    port = listener.getsockname()[1]
    app = create_app(dataclasses.replace(config, port=port))
    app.services.hub.open_for_serving()
    host = f"[{config.host}]" if ":" in config.host else config.host
    print(f"hub: http://{host}:{port}", flush=True)
    print(f"hub: files in {config.folder()}", file=sys.stderr)
    print(f"hub: administrator's token in {Layout(config.folder()).admin_token}", file=sys.stderr)
    print(f"hub: {app.services.hub.isolation.describe()}", file=sys.stderr)
    server = uvicorn.Server(settings(app, log_level))
    server.run(sockets=[listener])
    return 0 if server.started else 1


class WithoutQueries(logging.Filter):
    """Keep signed addresses out of the access log: what follows the `?` is not written."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the path of a line of the access log."""
        if isinstance(record.args, tuple) and len(record.args) == 5:
            client, method, path, *rest = record.args
            record.args = (client, method, str(path).partition("?")[0], *rest)
        return True


def settings(app: ASGIApp, log_level: str = "warning") -> uvicorn.Config:
    """Return how the hub's application is served."""
    access = logging.getLogger("uvicorn.access")
    if not any(isinstance(known, WithoutQueries) for known in access.filters):
        access.addFilter(WithoutQueries())
    return uvicorn.Config(
        app,
        http=SocketProtocol,
        log_level=log_level,
        access_log=log_level in ("info", "debug"),
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
    )
