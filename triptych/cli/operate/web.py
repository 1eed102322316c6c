"""Serve the landing page, Studio, Playground and Console at one address.

`triptych up` starts this beside the hub and the gateway; alone it shows what is there.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych web`."""
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (7860, or the next free one)")
    parser.add_argument("--gateway", default="http://127.0.0.1:7870", help="the gateway's address")
    parser.add_argument("--hub", default="http://127.0.0.1:7880", help="the hub's address")


def run(args: argparse.Namespace) -> int:
    """Serve the panels until interrupted."""
    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.panels.composition import build_app
    from triptych.panels.serving import serve

    given = {"panels.host": args.host, "panels.port": args.port}
    config = load_config(None, [f"{k}={v}" for k, v in given.items() if v is not None])
    return serve(build_app(config, resolve, args.gateway, args.hub), config, "Triptych")
