"""Publish a corpus as a dataset repository that `datasets` can load.

Examples:
  triptych publish-data corpus acme/tales --license cc-by-4.0 --language en
  triptych publish-data corpus acme/notes --private
Prints the commit. Publishing the same again changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych publish-data`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="corpus of `triptych data build`")
    parser.add_argument("repo_id", help="dataset repository, such as acme/tales")
    parser.add_argument("--private", action="store_true", help="create the repository private")
    parser.add_argument("--tag", help="name the commit")
    parser.add_argument("--license", help="licence of the whole, such as cc-by-4.0")
    parser.add_argument("--language", action="append", default=[], help="such as en; repeatable")
    parser.add_argument("--endpoint", help="address of the hub; default HF_ENDPOINT")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Publish, and print the commit."""
    from triptych.hub.client import Hub
    from triptych.hub.publish_data import publish_data
    from triptych.hub.repository import Repo

    published = publish_data(
        Hub(args.endpoint),
        args.folder,
        Repo.parse(args.repo_id, "dataset"),
        license=args.license,
        languages=tuple(args.language),
        private=args.private,
        tag=args.tag,
    )
    if args.json:
        import json

        print(json.dumps(vars(published), indent=2))
        return 0
    new = "" if published.committed else "  (nothing new)"
    print(f"{published.url}{new}", file=sys.stderr)
    print(f"{published.repo}@{published.commit}")
    return 0
