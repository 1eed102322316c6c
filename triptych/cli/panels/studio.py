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
    from triptych.config import load_config
    from triptych.panels.serving import serve
    from triptych.panels.studio.app import build_app

    given = {"panels.host": args.host, "panels.port": args.port}
    config = load_config(None, [f"{k}={v}" for k, v in given.items() if v is not None])
    return serve(build_app(config), config, "Studio")
