"""Compare models side by side in the browser.

  triptych playground                          the checkpoints of your runs
  triptych playground acme/base ./checkpoint   and these models
  triptych playground --gateway http://127.0.0.1:7870   and the tiers of a gateway

The page is on this machine only unless --host says otherwise.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych playground`."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="folder, run or owner/name")
    parser.add_argument(
        "--gateway", help="a gateway whose tiers are offered too; it gets the votes"
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (7860, or the next free one)")


def run(args: argparse.Namespace) -> int:
    """Serve the Playground until interrupted."""
    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.panels.playground.app import build_app
    from triptych.panels.serving import serve

    given = {
        "panels.host": args.host,
        "panels.port": args.port,
        "panels.gateway": args.gateway,
    }
    config = load_config(None, [f"{k}={v}" for k, v in given.items() if v is not None])
    for model in args.models:
        resolve(model)  # a wrong name is an error now, not on the page
    return serve(build_app(config, resolve, args.models), config, "Playground")
