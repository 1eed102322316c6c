"""Start, watch, stop, resume, branch and compare training runs.

  triptych runs start configs/tiny.toml train.data=corpus     queue a run; it trains by itself
  triptych runs start configs/tiny.toml train.data=corpus --on jobs      in a job on the hub
  triptych runs list                                          what there is
  triptych runs logs RUN --follow                             watch one
  triptych runs stop RUN      triptych runs resume RUN        rest, and go on to the bit
  triptych runs branch RUN train.learning_rate=0.01           a new run from its checkpoint
  triptych runs compare RUN RUN                               settings that differ, and results
  triptych runs estimate configs/tiny.toml train.data=corpus  time, memory, tokens, disk
  triptych runs sweep configs/tiny.toml --vary train.seed=1,2,3 --vary train.learning_rate=0.01,0.03
  triptych runs results SWEEP --csv                           means with intervals, or every run
  triptych runs config RUN                                    the file that repeats it to the bit

A run lives in TRIPTYCH_HOME/runs and belongs to no window: closing the terminal changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.config import Config
    from triptych.hub.jobs import HubJobs
    from triptych.lm.runs.store import Run, RunStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych runs`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    start = verbs.add_parser("start", help="queue a run and see that it is trained")
    start.add_argument("settings", nargs="*", help="a TOML file, and section.field=value")
    start.add_argument("--name", default="", help="what to call it")
    start.add_argument("--key", default="", help="the same key never starts a second run")
    start.add_argument(
        "--on", choices=("local", "torchrun", "jobs"), help="a process here, several, or a hub job"
    )
    start.add_argument("--json", action="store_true")
    _add_sweep_arguments(verbs)
    listing = verbs.add_parser("list", help="all runs, newest first")
    listing.add_argument("--json", action="store_true")
    for verb, text in (
        ("show", "everything about one run"),
        ("stop", "finish the step, save and rest (also: pause)"),
        ("pause", "the same as stop"),
        ("resume", "go on where a paused or interrupted run was"),
        ("cancel", "end a run for good; its checkpoints stay"),
        ("delete", "delete an ended or resting run and its checkpoints"),
    ):
        one = verbs.add_parser(verb, help=text)
        one.add_argument("run_id")
        one.add_argument("--json", action="store_true")
        if verb == "delete":
            one.add_argument("--yes", action="store_true", help="do not ask")
    branch = verbs.add_parser("branch", help="a new run from one of a run's checkpoints")
    branch.add_argument("run_id")
    branch.add_argument("settings", nargs="*", help="section.field=value")
    branch.add_argument("--checkpoint", default="latest", help="latest, best or step-00000100")
    branch.add_argument("--name", default="")
    branch.add_argument("--json", action="store_true")
    extend = verbs.add_parser("extend", help="go on for more steps than a finished run had")
    extend.add_argument("run_id")
    extend.add_argument("--steps", type=int, required=True)
    extend.add_argument("--json", action="store_true")
    logs = verbs.add_parser("logs", help="what the worker printed")
    logs.add_argument("run_id")
    logs.add_argument("--follow", action="store_true", help="until the run rests")
    compare = verbs.add_parser("compare", help="settings that differ, and results")
    compare.add_argument("run_ids", nargs="+", metavar="run_id")
    compare.add_argument("--json", action="store_true")
    supervise = verbs.add_parser("supervise", help="train what is queued, in this process")
    supervise.add_argument("--until-idle", action="store_true", help="end when nothing is left")
    work = verbs.add_parser("work", help="the worker of one run; started by the supervisor")
    where = work.add_mutually_exclusive_group(required=True)
    where.add_argument("folder", type=Path, nargs="?")
    where.add_argument("--sent", metavar="RUN", help="inside a job: the run that was sent to it")
    control = verbs.add_parser("control-job", help="control a run that trains in a job on the hub")
    control.add_argument("folder", type=Path)
    join = verbs.add_parser("join", help="be one more machine of a run that torchrun spreads")
    join.add_argument("run_id")


def _add_sweep_arguments(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    estimate = verbs.add_parser("estimate", help="what a run would take, measured by a few steps")
    estimate.add_argument("settings", nargs="*", help="a TOML file, and section.field=value")
    estimate.add_argument("--json", action="store_true")
    sweep = verbs.add_parser("sweep", help="queue a small grid of settings and seeds")
    sweep.add_argument("settings", nargs="*", help="a TOML file, and section.field=value")
    sweep.add_argument(
        "--vary", action="append", default=[], required=True, metavar="NAME=VALUE,VALUE"
    )
    sweep.add_argument("--name", default="", help="what to call it")
    sweep.add_argument("--json", action="store_true")
    results = verbs.add_parser("results", help="what a sweep came to; without a name, all sweeps")
    results.add_argument("sweep", nargs="?")
    results.add_argument("--csv", action="store_true", help="one row for each run")
    config = verbs.add_parser("config", help="print a run's configuration, resolved, as TOML")
    config.add_argument("run_id")


def run(args: argparse.Namespace) -> int:
    """Do what the verb says."""
    actions = {
        "start": _start,
        "estimate": _estimate,
        "sweep": _sweep,
        "results": _results,
        "config": _config,
        "list": _list,
        "show": _show,
        "delete": _delete,
        "branch": _branch,
        "extend": _extend,
        "logs": _logs,
        "compare": _compare,
        "supervise": _supervise,
        "work": _work,
        "control-job": _control_job,
        "join": _join,
    }
    return actions.get(args.verb, _control)(args)


def _store() -> RunStore:
    from triptych.config import environment
    from triptych.lm.runs.store import RunStore

    return RunStore(environment.home() / "runs")


def _configured(settings: list[str]) -> tuple[Config, str]:
    from triptych.config import load_config

    files = [Path(text) for text in settings if "=" not in text]
    config = load_config(files[0] if files else None, [t for t in settings if "=" in t])
    return config, files[0].stem if files else config.model.size


def _start(args: argparse.Namespace) -> int:
    from triptych.lm.runs.rights import check_quota
    from triptych.lm.runs.store import Request

    config, name = _configured(args.settings)
    store = _store()
    check_quota(store, config.runs, "local", config.train.steps)
    where = args.on or config.runs.backend
    request = Request.of(config, name=args.name or name, key=args.key, backend=where)
    return _queued(args, store.create(request))


def _estimate(args: argparse.Namespace) -> int:
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


def _sweep(args: argparse.Namespace) -> int:
    from triptych.lm.runs.sweep import start_sweep

    config, name = _configured(args.settings)
    made = start_sweep(_store(), config, args.vary, name=args.name or name)
    _ensure_supervisor()
    if args.json:
        print(json.dumps([run.summary() for run in made]))
        return 0
    print(made[0].request["sweep"])
    print(
        f"{len(made)} runs queued; later: triptych runs results {made[0].request['sweep']}",
        file=sys.stderr,
    )
    return 0


def _results(args: argparse.Namespace) -> int:
    from triptych.lm.runs.sweep import RESULTS, runs_of, summarise, sweeps, to_csv

    store = _store()
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


def _config(args: argparse.Namespace) -> int:
    from triptych.lm.runs.reproduce import command, config_toml

    made = _store().get(args.run_id)
    print(config_toml(made), end="")
    print(f"repeat it: {command(made)}", file=sys.stderr)
    return 0


def _branch(args: argparse.Namespace) -> int:
    from triptych.lm.runs import control

    made = control.branch(
        _store(), args.run_id, args.settings, checkpoint=args.checkpoint, name=args.name
    )
    return _queued(args, made)


def _extend(args: argparse.Namespace) -> int:
    from triptych.lm.runs import control

    return _queued(args, control.extend(_store(), args.run_id, args.steps))


def _queued(args: argparse.Namespace, made: Run) -> int:
    _ensure_supervisor()
    if args.json:
        print(json.dumps(made.summary()))
        return 0
    print(made.run_id)
    print(f"queued; watch it: triptych runs logs {made.run_id} --follow", file=sys.stderr)
    return 0


def _ensure_supervisor() -> None:
    """Start a supervisor that ends by itself, unless one lives already."""
    from triptych.config import environment
    from triptych.durable import FolderLock
    from triptych.errors import StorageError
    from triptych.processes import Command, start

    root = environment.home() / "runs"
    try:
        FolderLock(root / "supervisor.lock").acquire().release()
    except StorageError:
        return
    arguments = [sys.executable, "-m", "triptych", "runs", "supervise", "--until-idle"]
    start(Command("runs-supervisor", arguments, log=environment.home() / "logs" / "runs.log"))


def _list(args: argparse.Namespace) -> int:
    runs = _store().list()
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


def _show(args: argparse.Namespace) -> int:
    from triptych.lm.runs.metrics import series

    run = _store().get(args.run_id)
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


def _control(args: argparse.Namespace) -> int:
    from triptych.lm.runs import control

    verbs = {
        "stop": control.pause,
        "pause": control.pause,
        "resume": control.resume,
        "cancel": control.cancel,
    }
    changed = verbs[args.verb](_store(), args.run_id)
    _ensure_supervisor()
    print(json.dumps(changed.summary()) if args.json else f"{changed.run_id} is {changed.state}")
    return 0


def _delete(args: argparse.Namespace) -> int:
    store = _store()
    run = store.get(args.run_id)
    if not args.yes and sys.stdin.isatty():
        answer = input(f"delete {run.run_id} ({run.state}) and its checkpoints? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            return 1
    store.delete(run.run_id)
    print(json.dumps({"deleted": run.run_id}) if args.json else f"deleted {run.run_id}")
    return 0


def _logs(args: argparse.Namespace) -> int:
    from triptych.lm.runs.states import LIVE

    store = _store()
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


def _compare(args: argparse.Namespace) -> int:
    from triptych.lm.runs.comparison import compare

    table = compare([_store().get(run_id) for run_id in args.run_ids])
    if args.json:
        print(json.dumps(table))
        return 0
    for row in table["rows"]:
        print("  ".join(f"{cell!s:<28}" for cell in row))
    return 0


def _supervise(args: argparse.Namespace) -> int:
    from triptych.config import load_config
    from triptych.lm.runs.supervisor import RunSupervisor

    with RunSupervisor(_store(), load_config().runs) as supervisor:
        if args.until_idle:
            supervisor.run_until_idle()
            return 0
        supervisor.run_in_background()
        while True:
            time.sleep(3600)


def _work(args: argparse.Namespace) -> int:
    from triptych.cli.resolve import resolve
    from triptych.config import environment
    from triptych.errors import UsageError
    from triptych.lm.runs.worker import work

    if args.folder:
        return work(args.folder, resolve)
    from triptych.lm.runs.remote.entrypoint import train_in_job

    job = environment.get("JOB_ID")
    if not job:
        raise UsageError(
            "--sent belongs inside a job of the hub", hint="triptych runs start --on jobs"
        )
    return train_in_job(_jobs(), args.sent, job, environment.home(), resolve)


def _control_job(args: argparse.Namespace) -> int:
    from triptych.lm.runs.remote.controller import control_job

    return control_job(args.folder, _jobs())


def _jobs() -> HubJobs:
    from triptych.config import load_config
    from triptych.hub.client import Hub
    from triptych.hub.jobs import HubJobs

    return HubJobs(Hub(), load_config().runs)


def _join(args: argparse.Namespace) -> int:
    from triptych.config import load_config
    from triptych.lm.runs.node import join

    return join(_store(), args.run_id, load_config().runs)
