"""Walk the whole life cycle on this machine, in a few minutes.

  triptych demo                      train on the documentation and source of your Python
  triptych demo notes/ more.txt      train on your own text
  triptych demo --seconds 30         a shorter training

Every stage is an ordinary command, shown before it runs, so that the demo is also a tour. The
result stays: the run `demo` under TRIPTYCH_HOME, and what later stages publish and deploy from it.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych demo`."""
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCE", help="files, folders or dataset ids to learn from"
    )
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="seconds of training (default: 90)"
    )
    parser.add_argument(
        "--until", metavar="STAGE", help="stop after this stage: train, hub, serve, gateway"
    )


def run(args: argparse.Namespace) -> int:
    """Run the stages one after the other and end by saying what to type next."""
    from triptych.cli.demo.tour import Tour
    from triptych.config import environment

    tour = Tour(environment.home(), args.sources or ["python-docs"], args.seconds)
    return tour.walk(args.until)
