"""The state of a run, derived from its files and whether its process is alive; never stored.

::

    queued ──▶ starting ──▶ running ──▶ succeeded
      │            │           ├──────▶ failed
      │            │           ├──────▶ stopping ──▶ paused | cancelled
      │            └───────────┴──────▶ interrupted      (the worker died)
      ├──▶ paused
      └──▶ cancelled

    paused, interrupted ──resume──▶ queued       in place, bit for bit
    paused, interrupted ──cancel──▶ cancelled
    failed, cancelled, succeeded ──branch──▶ a new run

Three files decide: `control.json` holds the desired state and a ticket that counts requests to
run, `worker.json` the process that was started for a ticket, and `run.json` the trainer's state.
A remote run has a fourth, `job.json`: until its job is known to be over, a run that shall pause
or be cancelled is stopping, even if its controller has died.
Left out: writing them (`control`, `supervisor`, the trainer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

RunState = Literal[
    "queued",
    "starting",
    "running",
    "stopping",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
    "interrupted",
]
DesiredState = Literal["run", "pause", "cancel"]

STATES: tuple[RunState, ...] = get_args(RunState)
LIVE: frozenset[RunState] = frozenset({"starting", "running", "stopping"})
ENDED: frozenset[RunState] = frozenset({"succeeded", "failed", "cancelled"})
RESUMABLE: frozenset[RunState] = frozenset({"paused", "interrupted"})

# The states in which each desired state may be requested.
ALLOWED: Mapping[DesiredState, frozenset[RunState]] = {
    "run": RESUMABLE,
    "pause": frozenset({"queued", "starting", "running"}),
    "cancel": frozenset({"queued", "starting", "running", "stopping", "paused", "interrupted"}),
}

Files = Mapping[str, Any] | None


def derive(
    control: Files, worker: Files, record: Files, *, alive: bool, job_open: bool = False
) -> RunState:
    """Return the state of a run.

    `control`, `worker` and `record` are the three files, None where a file does not exist;
    `alive` is whether the worker's process runs, `job_open` whether a remote job may still train.
    A run without `control` was started by `triptych train`.
    """
    wanted: DesiredState = control["wanted"] if control else "run"
    trainer = record.get("state") if record else None
    if alive:
        if wanted != "run":
            return "stopping"
        return "running" if trainer in ("running", "finished") else "starting"
    if trainer == "finished":
        return "succeeded"
    if job_open and wanted != "run":
        return "stopping"
    if control and control["ticket"] > (worker["ticket"] if worker else 0) and wanted == "run":
        return "queued"
    if trainer == "failed":
        return "failed"
    if wanted == "cancel":
        return "cancelled"
    if wanted == "pause" or trainer == "stopped":
        return "paused"
    return "interrupted"
