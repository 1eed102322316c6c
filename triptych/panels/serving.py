"""Serve one page until interrupted, and say where it is."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI

from triptych.config import Config
from triptych.processes import bind


def serve(app: FastAPI, config: Config, name: str) -> int:
    """Listen where the configuration says; a taken port gives way to the next free one."""
    listener = bind(config.panels.host, config.panels.port, move=True)
    port = listener.getsockname()[1]
    if config.panels.port not in (0, port):
        print(f"port {config.panels.port} is taken; using {port}", file=sys.stderr)
    print(f"{name}: http://{config.panels.host}:{port}", file=sys.stderr, flush=True)
    settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(settings).run(sockets=[listener])
    return 0
