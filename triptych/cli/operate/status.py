"""What runs, where, and whether it answers."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych status`."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Ask every part how it is; exit code 1 when something does not answer."""
    from triptych.cli.operate.services import answers, read_record
    from triptych.config import environment
    from triptych.lm.runs.states import LIVE
    from triptych.lm.runs.store import RunStore

    found = read_record()
    rows = [
        {"name": part["name"], "address": part["address"], "answers": answers(part["health"])}
        for part in (found[1] if found else [])
    ]
    live = [
        run.summary() for run in RunStore(environment.home() / "runs").list() if run.state in LIVE
    ]
    if args.json:
        print(json.dumps({"up": found is not None, "parts": rows, "runs": live}, default=str))
    elif found is None:
        print("nothing is up; start it: triptych up")
    else:
        for row in rows:
            print(
                f"{row['name']:<8} {'answers' if row['answers'] else 'is away':<8} {row['address']}"
            )
    if not args.json:
        for run in live:
            print(f"run      {run['state']:<8} {run['run_id']}  step {run['step']}")
    return 0 if all(row["answers"] for row in rows) else 1
