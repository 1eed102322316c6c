"""Publish a checkpoint of a run, and add to the registry what then is on the hub.

Only where the runs are: a Console far from them adds what was published elsewhere.
"""

from __future__ import annotations

import asyncio

from triptych.errors import RunError, TierError
from triptych.hub.client import Hub
from triptych.lm.runs import control
from triptych.lm.runs.rights import LOCAL
from triptych.lm.runs.store import Run, RunStore
from triptych.panels import publishing
from triptych.panels.console.models import published
from triptych.panels.console.models.view import Publish, whose
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.visitor import Visitor
from triptych.panels.web.work import Heard

Choice = tuple[str, str]


def offered_runs(runs: RunStore) -> list[Choice]:
    """Return the runs of this installation that have a checkpoint, the newest first."""
    return [
        (run.run_id, f"{run.name} · {run.state} at step {run.step:,} · {run.run_id[-4:]}")
        for run in runs.list(user=LOCAL)
        if _steps(run)
    ]


def own_run(runs: RunStore, run_id: str) -> Run:
    """Return a run of this installation; visitors of the Studio publish their own runs.

    Raises: RunError.
    """
    run = runs.get(run_id)
    if run.user != LOCAL:
        raise RunError(f"no run {run_id}", hint="choose one of the list", code="run_not_found")
    return run


def offered_checkpoints(run: Run) -> list[Choice]:
    """Return a run's checkpoints, the best first and then the newest."""
    steps = _steps(run)
    if not steps:
        return []
    best = publishing.best(run).name
    ordered = [best, *(step for step in reversed(steps) if step != best)]
    return [
        (step, f"step {int(step.partition('-')[2]):,}{', the best' if step == best else ''}")
        for step in ordered
    ]


def foresee(runs: RunStore, hub: Hub, publish: Publish) -> tuple[str, str]:
    """Return what publishing does, in words, and the beginning of the model's card.

    Raises: PublishRefused, UsageError for what would be refused anyway.
    """
    run = own_run(runs, publish.run)
    folder = control.checkpoint_folder(run, publish.checkpoint)
    does, card = publishing.foresee(folder, publish.repo, publish.private, hub)
    return (
        f"{publish.repo} {does}: {folder.name} of {run.name}, once a fresh process reproduced its"
        f" loss. Then it is added for the {publish.tier} tier {whose(publish.company_id)}; it"
        " answers no request before it is deployed."
    ), card


async def carry_out(
    gateway: GatewayClient, runs: RunStore, hub: Hub, publish: Publish, heard: Heard
) -> str:
    """Publish, then add what the hub reports."""
    heard("The checkpoint is verified")
    run = own_run(runs, publish.run)
    done = await asyncio.to_thread(
        lambda: publishing.publish(
            run, publish.repo, publish.private, Visitor(LOCAL), checkpoint=publish.checkpoint,
            hub=hub.endpoint, heard=heard,
        )
    )  # fmt: skip
    there = f"{done['repo']}@{done['commit']}"
    words = f"{'Published' if done['committed'] else 'Nothing new'}: {there}"
    found = await asyncio.to_thread(published.published, hub, there)
    try:
        model_id = await published.enter(gateway, found, publish.tier, publish.company_id)
    except TierError as error:
        return f"{words}; not added: {error.message}"
    return f"{words}, added as {model_id}"


def _steps(run: Run) -> list[str]:
    return sorted(path.name for path in run.path.glob("checkpoints/step-*"))
