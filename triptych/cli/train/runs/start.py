"""The verbs that queue runs: start, sweep, branch, extend; and estimate, which only measures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.cli.train.runs.processes import ensure_supervisor, open_store

if TYPE_CHECKING:
    from triptych.config import Config
    from triptych.lm.runs.store import Run


def start(args: argparse.Namespace) -> int:
    """Queue a run and start a supervisor if none is alive."""
    from triptych.lm.runs.rights import check_quota
    from triptych.lm.runs.store import Request

    config, name = _configured(args.settings)
    store = open_store()
    check_quota(store, config.runs, "local", config.train.steps)
    where = place(args.on) or config.runs.backend
    request = Request.of(config, name=args.name or name, key=args.key, backend=where)
    return _queued(args, store.create(request))


def place(word: str | None) -> str:
    """Return the backend that `--on` names."""
    return "jobs" if word == "hf-jobs" else word or ""


def job_file(args: argparse.Namespace) -> int:
    """Print the file with which a run is submitted by hand."""
    from triptych.config import load_config
    from triptych.lm.runs.batch.job_files import batch_script, skypilot_task

    config = load_config(None, args.settings).runs
    write = skypilot_task if args.place == "skypilot" else batch_script
    print(write(open_store().path(args.run_id), config), end="")
    return 0


def estimate(args: argparse.Namespace) -> int:
    """Print what a run would take, measured by a few of its steps."""
    from triptych.cli.resolve import resolve
    from triptych.formatting import format_bytes, format_count, format_duration
    from triptych.lm.runs.estimate import estimate

    found = estimate(_configured(args.settings)[0], resolve)
    if args.json:
        print(json.dumps(found.to_dict()))
        return 0
    print(f"parameters  {format_count(found.parameters)}")
    print(f"steps       {found.steps:,} of {found.step_s * 1000:,.0f} ms")
    print(f"tokens      {format_count(found.tokens)} ({found.epochs:.2g} epochs)")
    print(f"time        {format_duration(found.seconds)}")
    print(f"memory      {format_bytes(found.memory_bytes)}")
    print(f"disk        {format_bytes(found.disk_bytes)}")
    return 0


def sweep(args: argparse.Namespace) -> int:
    """Queue one run for every point of a grid."""
    from triptych.lm.runs.sweep import start_sweep

    config, name = _configured(args.settings)
    made = start_sweep(open_store(), config, args.vary, name=args.name or name)
    ensure_supervisor()
    if args.json:
        print(json.dumps([run.summary() for run in made]))
        return 0
    print(made[0].request["sweep"])
    print(
        f"{len(made)} runs queued; later: triptych runs results {made[0].request['sweep']}",
        file=sys.stderr,
    )
    return 0


def branch(args: argparse.Namespace) -> int:
    """Queue a new run from one of a run's checkpoints."""
    from triptych.lm.runs import control

    made = control.branch(
        open_store(), args.run_id, args.settings, checkpoint=args.checkpoint, name=args.name
    )
    return _queued(args, made)


def extend(args: argparse.Namespace) -> int:
    """Queue a new run that continues a finished one for more steps."""
    from triptych.lm.runs import control

    return _queued(args, control.extend(open_store(), args.run_id, args.steps))


def _configured(settings: list[str]) -> tuple[Config, str]:
    from triptych.config import load_config

    files = [Path(text) for text in settings if "=" not in text]
    config = load_config(files[0] if files else None, [t for t in settings if "=" in t])
    return config, files[0].stem if files else config.model.size


def _queued(args: argparse.Namespace, made: Run) -> int:
    ensure_supervisor()
    if args.json:
        print(json.dumps(made.summary()))
        return 0
    print(made.run_id)
    print(f"queued; watch it: triptych runs logs {made.run_id} --follow", file=sys.stderr)
    return 0
