"""Steer the tiered service in the browser.

  triptych console
  triptych console --gateway https://llm.example.org

It talks to the gateway and the hub over HTTP only, so it can run beside them or far away.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych console`."""
    parser.add_argument("--gateway", help="the gateway's address; default: on this machine")
    parser.add_argument("--hub", help="the hub's address; default: HF_ENDPOINT")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (7860, or the next free one)")


def run(args: argparse.Namespace) -> int:
    """Serve the Console until interrupted."""
    from triptych.config import environment, load_config
    from triptych.lm.runs.store import RunStore
    from triptych.panels.console.app import build_app
    from triptych.panels.serving import serve

    given = {"panels.host": args.host, "panels.port": args.port}
    config = load_config(None, [f"{k}={v}" for k, v in given.items() if v is not None])
    gateway = args.gateway or f"http://{config.gateway.host}:{config.gateway.port}"
    runs = RunStore(environment.home() / "runs")
    return serve(build_app(gateway, args.hub, runs), config, "Console")
