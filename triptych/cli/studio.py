"""Start and watch training runs in the browser.

  triptych studio
  triptych studio --port 8000

The page is on this machine only unless --host says otherwise. Runs go on without it.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych studio`."""
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (7860, or the next free one)")


def run(args: argparse.Namespace) -> int:
    """Serve the Studio until interrupted."""
    import sys

    import uvicorn

    from triptych.config import load_config
    from triptych.panels.studio.app import build_app
    from triptych.processes import bind

    given = {"panels.host": args.host, "panels.port": args.port}
    config = load_config(None, [f"{k}={v}" for k, v in given.items() if v is not None])
    app = build_app(config)
    listener = bind(config.panels.host, config.panels.port, move=True)
    port = listener.getsockname()[1]
    print(f"Studio: http://{config.panels.host}:{port}", file=sys.stderr, flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    server.run(sockets=[listener])
    return 0
