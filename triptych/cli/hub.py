"""Run the embedded hub on this machine, and look after it.

Examples:
  triptych hub serve
  triptych hub token create alice laptop --role write
  triptych hub gc
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych hub`."""
    verbs = parser.add_subparsers(dest="verb", required=True)
    serve = verbs.add_parser("serve", help="start the hub")
    serve.add_argument("--root", help="folder of the hub; default: hub in TRIPTYCH_HOME")
    serve.add_argument("--host", help="address to listen on; default: loopback")
    serve.add_argument("--port", type=int, help="port; default 7880, 0 takes a free one")
    serve.add_argument("--log-level", default="warning", help="default: warning")


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    from triptych.config import load_config

    overrides = [
        f"hub.{name}={getattr(args, name)}"
        for name in ("root", "host", "port")
        if getattr(args, name, None) is not None
    ]
    config = load_config(None, overrides).hub
    if args.verb == "serve":
        from triptych.hub.server.serving import serve

        return serve(config, log_level=args.log_level)
    return 2
