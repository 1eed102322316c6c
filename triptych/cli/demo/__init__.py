"""Walk the whole life cycle on this machine, in a few minutes.

  triptych demo                      train on the documentation and source of your Python
  triptych demo notes/ more.txt      train on your own text
  triptych demo --seconds 30         a shorter training
  triptych demo --again              from the start, after a demo that failed half-way
  triptych demo --own-model-only     without fetching a chat model for the base tier

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
        "--seconds",
        type=float,
        default=90.0,
        help="training that takes two idle cores so long (default: 90)",
    )
    parser.add_argument(
        "--until", metavar="STAGE", help="stop after this stage: train, hub, gateway"
    )
    parser.add_argument("--again", action="store_true", help="forget what is finished already")
    parser.add_argument(
        "--own-model-only", action="store_true", help="fetch no chat model for the base tier"
    )


def run(args: argparse.Namespace) -> int:
    """Run the stages one after the other and end by saying what to type next."""
    from triptych.cli.demo import gateway, hub, train
    from triptych.cli.demo.tour import Stages, Tour
    from triptych.config import environment

    stages: Stages = {
        "train": (train.stage, lambda _: None),
        "hub": (hub.stage, hub.resume),
        "gateway": (gateway.stage, lambda _: None),
    }
    tour = Tour(
        environment.home(), args.sources or ["python-docs"], args.seconds,
        own_model_only=args.own_model_only,
    )  # fmt: skip
    return tour.walk(stages, args.until, again=args.again)
