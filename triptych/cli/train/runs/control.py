"""The verbs that change a run: stop, pause, resume, cancel, delete."""

from __future__ import annotations

import argparse
import json
import sys

from triptych.cli.train.runs.processes import ensure_supervisor, open_store
from triptych.cli.train.runs.start import place


def change_state(args: argparse.Namespace) -> int:
    """Pause, resume or cancel a run."""
    from triptych.lm.runs import control

    verbs = {
        "stop": control.pause,
        "pause": control.pause,
        "resume": control.resume,
        "cancel": control.cancel,
    }
    if getattr(args, "on", None):
        control.move(open_store(), args.run_id, place(args.on))
    changed = verbs[args.verb](open_store(), args.run_id)
    ensure_supervisor()
    print(json.dumps(changed.summary()) if args.json else f"{changed.run_id} is {changed.state}")
    return 0


def delete(args: argparse.Namespace) -> int:
    """Delete a run and its checkpoints, after a question on a terminal."""
    store = open_store()
    run = store.get(args.run_id)
    if not args.yes and sys.stdin.isatty():
        answer = input(f"delete {run.run_id} ({run.state}) and its checkpoints? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            return 1
    store.delete(run.run_id)
    print(json.dumps({"deleted": run.run_id}) if args.json else f"deleted {run.run_id}")
    return 0
