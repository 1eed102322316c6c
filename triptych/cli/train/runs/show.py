"""The verbs that only read: list, show, logs, compare, results, config."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from triptych.cli.train.runs.processes import open_store


def list_runs(args: argparse.Namespace) -> int:
    """Print all runs, newest first."""
    runs = open_store().list()
    if args.json:
        print(json.dumps([run.summary() for run in runs]))
        return 0
    if not runs:
        print("no runs yet; start one: triptych runs start configs/tiny.toml train.data=DIR")
        return 0
    print(f"{'run':<44} {'state':<12} {'step':>15}  name")
    for run in runs:
        steps = f"{run.step}/{run.steps or '?'}"
        print(f"{run.run_id:<44} {run.state:<12} {steps:>15}  {run.name}")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print everything about one run."""
    from triptych.lm.runs.metrics import series

    run = open_store().get(args.run_id)
    curves = series(run.path, ["train/loss", "val/loss", "val/bpb"], max_points=4)
    values: dict[str, Any] = {
        **run.summary(),
        "folder": str(run.path),
        "results": {name: points[-1][1] for name, points in curves.items() if points},
        "parent": run.request.get("parent"),
    }
    if args.json:
        print(json.dumps(values))
        return 0
    for name, value in values.items():
        if name != "notes":
            print(f"{name:<12} {value}")
    return 0


def logs(args: argparse.Namespace) -> int:
    """Print what the worker printed; with --follow, until the run ends or pauses."""
    from triptych.lm.runs.states import LIVE

    store = open_store()
    log = store.path(args.run_id) / "worker.log"
    position = 0
    while True:
        state = store.get(args.run_id).state
        if log.exists():
            with log.open("rb") as file:
                file.seek(position)
                block = file.read()
            position += len(block)
            sys.stdout.write(block.decode(errors="replace"))
            sys.stdout.flush()
        if not args.follow or (state not in LIVE and state != "queued"):
            return 0
        time.sleep(0.3)


def compare(args: argparse.Namespace) -> int:
    """Print the settings that differ and the results of several runs."""
    from triptych.lm.runs.comparison import compare

    table = compare([open_store().get(run_id) for run_id in args.run_ids])
    if args.json:
        print(json.dumps(table))
        return 0
    for row in table["rows"]:
        print("  ".join(f"{cell!s:<28}" for cell in row))
    return 0


def results(args: argparse.Namespace) -> int:
    """Print a sweep's means with intervals, or every run as CSV; without a name, all sweeps."""
    from triptych.lm.runs.sweep import RESULTS, runs_of, summarise, sweeps, to_csv

    store = open_store()
    if not args.sweep:
        print("\n".join(sweeps(store)) or "no sweeps yet; start one: triptych runs sweep --help")
        return 0
    runs = runs_of(store, args.sweep)
    if args.csv:
        print(to_csv(runs), end="")
        return 0
    print("  ".join(f"{cell:<24}" for cell in ("settings", "runs", *RESULTS)))
    for group in summarise(runs):
        settings = ", ".join(f"{k.partition('.')[2]}={v}" for k, v in group.settings.items())
        done = sum(run.state == "succeeded" for run in group.runs)
        cells = [settings or "all alike", f"{done} of {len(group.runs)}"]
        cells += [str(group.results[name] or "") for name in RESULTS]
        print("  ".join(f"{cell:<24}" for cell in cells))
    return 0


def config(args: argparse.Namespace) -> int:
    """Print a run's resolved configuration as TOML."""
    from triptych.lm.runs.reproduce import command, config_toml

    made = open_store().get(args.run_id)
    print(config_toml(made), end="")
    print(f"repeat it: {command(made)}", file=sys.stderr)
    return 0
