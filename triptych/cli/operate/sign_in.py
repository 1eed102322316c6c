"""Print a link that signs this machine's user in to the panels, once.

The link works for an hour, and only on this machine's panels. It signs in as the first admin.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych sign-in`."""
    parser.add_argument("--then", default="/console/", help="page to open (/console/)")


def run(args: argparse.Namespace) -> int:
    """Print a fresh link."""
    from triptych.cli.operate.services import read_record
    from triptych.errors import UsageError
    from triptych.panels.sign_in.one_time import issue

    found = read_record()
    if found is None:
        raise UsageError("nothing is up to sign in to", hint="start it: triptych up")
    web = next(part["address"] for part in found[1] if part["name"] == "web")
    print(issue(web, args.then))
    return 0
