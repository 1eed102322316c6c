"""Start, watch, stop, resume, branch and compare training runs.

  triptych runs start configs/tiny.toml train.data=corpus     queue a run; trained in background
  triptych runs start configs/tiny.toml train.data=corpus --on jobs      in a job on the hub
  triptych runs start configs/tiny.toml train.data=corpus --on slurm     as a batch job
  triptych runs resume RUN --on local                         move it: bit for bit the same run
  triptych runs list                                          all runs
  triptych runs logs RUN --follow                             watch one
  triptych runs stop RUN      triptych runs resume RUN        pause, and continue exactly
  triptych runs branch RUN train.learning_rate=0.01           a new run from its checkpoint
  triptych runs extend RUN --steps 500                        go on, with its optimizer and data
  triptych runs compare RUN RUN                               settings that differ, and results
  triptych runs estimate configs/tiny.toml train.data=corpus  time, memory, tokens, disk
  triptych runs sweep configs/tiny.toml --vary train.seed=1,2,3 --vary train.learning_rate=0.01,0.03
  triptych runs results SWEEP --csv                           means with intervals, or every run
  triptych runs config RUN                                    the file that reproduces it exactly

A run is a folder in TRIPTYCH_HOME/runs and trains in its own process: closing the terminal changes
nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triptych.cli.train.runs import control, processes, show, start

PLACES = ("local", "torchrun", "jobs", "hf-jobs", "slurm", "ssh")
"""`hf-jobs` is another word for `jobs`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych runs`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_starting_verbs(verbs)
    listing = verbs.add_parser("list", help="all runs, newest first")
    listing.add_argument("--json", action="store_true")
    for verb, text in (
        ("show", "everything about one run"),
        ("stop", "finish the step, save and pause (also: pause)"),
        ("pause", "the same as stop"),
        ("resume", "continue a paused or interrupted run exactly where it was"),
        ("cancel", "end a run for good; its checkpoints stay"),
        ("delete", "delete an ended or paused run and its checkpoints"),
    ):
        one = verbs.add_parser(verb, help=text)
        one.add_argument("run_id")
        one.add_argument("--json", action="store_true")
        if verb == "resume":
            one.add_argument("--on", choices=PLACES, help="go on there instead")
        if verb == "delete":
            one.add_argument("--yes", action="store_true", help="do not ask")
    logs = verbs.add_parser("logs", help="what the worker printed")
    logs.add_argument("run_id")
    logs.add_argument("--follow", action="store_true", help="until the run ends or pauses")
    compare = verbs.add_parser("compare", help="settings that differ, and results")
    compare.add_argument("run_ids", nargs="+", metavar="run_id")
    compare.add_argument("--json", action="store_true")
    results = verbs.add_parser("results", help="the results of a sweep; without a name, all sweeps")
    results.add_argument("sweep", nargs="?")
    results.add_argument("--csv", action="store_true", help="one row for each run")
    resolved = verbs.add_parser("config", help="print a run's configuration, resolved, as TOML")
    resolved.add_argument("run_id")
    _add_process_verbs(verbs)


def _add_starting_verbs(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    queued = verbs.add_parser("start", help="queue a run; a supervisor trains it")
    queued.add_argument("settings", nargs="*", help="a TOML file, and section.field=value")
    queued.add_argument("--name", default="", help="a name for the list of runs")
    queued.add_argument("--key", default="", help="the same key never starts a second run")
    queued.add_argument(
        "--on", choices=PLACES, help="a process here, several, a hub job, SLURM, or ssh"
    )
    queued.add_argument("--json", action="store_true")
    estimate = verbs.add_parser("estimate", help="what a run would take, measured by a few steps")
    estimate.add_argument("settings", nargs="*", help="a TOML file, and section.field=value")
    estimate.add_argument("--json", action="store_true")
    sweep = verbs.add_parser("sweep", help="queue a small grid of settings and seeds")
    sweep.add_argument("settings", nargs="*", help="a TOML file, and section.field=value")
    sweep.add_argument(
        "--vary", action="append", default=[], required=True, metavar="NAME=VALUE,VALUE"
    )
    sweep.add_argument("--name", default="", help="a name for the sweep")
    sweep.add_argument("--json", action="store_true")
    branch = verbs.add_parser("branch", help="a new run from one of a run's checkpoints")
    branch.add_argument("run_id")
    branch.add_argument("settings", nargs="*", help="section.field=value")
    branch.add_argument("--checkpoint", default="latest", help="latest, best or step-00000100")
    branch.add_argument("--name", default="")
    branch.add_argument("--json", action="store_true")
    extend = verbs.add_parser("extend", help="train a finished run for more steps, as a new run")
    extend.add_argument("run_id")
    extend.add_argument("--steps", type=int, required=True, help="how many more")
    extend.add_argument("--json", action="store_true")


def _add_process_verbs(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]
    supervise = verbs.add_parser("supervise", help="train what is queued, in this process")
    supervise.add_argument("--until-idle", action="store_true", help="end when nothing is left")
    work = verbs.add_parser("work", help="the worker of one run; started by the supervisor")
    where = work.add_mutually_exclusive_group(required=True)
    where.add_argument("folder", type=Path, nargs="?")
    where.add_argument("--sent", metavar="RUN", help="inside a job: the run that was sent to it")
    controller = verbs.add_parser("control-job", help="the controller of a run in a hub job")
    controller.add_argument("folder", type=Path)
    batch = verbs.add_parser("control-batch", help="the controller of a run in a batch job")
    batch.add_argument("folder", type=Path)
    job_file = verbs.add_parser("job-file", help="print the file with which a run is submitted")
    job_file.add_argument("run_id")
    job_file.add_argument("--for", dest="place", choices=("slurm", "skypilot"), default="slurm")
    job_file.add_argument("settings", nargs="*", help="runs.field=value")
    join = verbs.add_parser("join", help="add this machine to a run that torchrun spreads")
    join.add_argument("run_id")


def run(args: argparse.Namespace) -> int:
    """Run one verb and return its exit code."""
    actions = {
        "start": start.start,
        "estimate": start.estimate,
        "sweep": start.sweep,
        "branch": start.branch,
        "extend": start.extend,
        "list": show.list_runs,
        "show": show.show,
        "logs": show.logs,
        "compare": show.compare,
        "results": show.results,
        "config": show.config,
        "delete": control.delete,
        "supervise": processes.supervise,
        "work": processes.work,
        "control-job": processes.control_job,
        "control-batch": processes.control_batch,
        "job-file": start.job_file,
        "join": processes.join,
    }
    return actions.get(args.verb, control.change_state)(args)
