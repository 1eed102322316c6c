"""Publish a checkpoint of a run, and enter into the registry what became of it.

Only where the runs are: a Console far from them enters what was published elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from triptych.errors import RunError, TierError
from triptych.hub.client import Hub
from triptych.lm.runs import control
from triptych.lm.runs.rights import LOCAL
from triptych.lm.runs.store import Run, RunStore
from triptych.panels import publishing
from triptych.panels.console.models import published
from triptych.panels.console_gradio.tab import QUIET, acts, ask_once, signed_in, to_the_end
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.visitor import Visitor
from triptych.wire.tiers import TIERS


@dataclass(frozen=True)
class Publishing:
    """Where one publishes, and the event after which the registry should be read again."""

    place: gr.Column
    done: Any


@dataclass(frozen=True)
class Publication:
    """What is published where, and for whom it is entered."""

    run_id: str | None
    checkpoint: str | None
    repo: str
    private: bool
    tier: str
    company: str


def draw(client: gr.State, hub: str | None, runs: RunStore) -> Publishing:
    """Draw where a checkpoint is chosen and published."""
    with (
        gr.Column(visible=False) as place,
        gr.Accordion("Publish a checkpoint of a run", open=False) as opened,
    ):
        # A web process that was started anew does not know what an older one offered.
        offers: dict[str, Any] = {"choices": [], "value": None, "allow_custom_value": True}
        with gr.Row():
            run = gr.Dropdown(label="Run", scale=3, min_width=200, **offers)
            checkpoint = gr.Dropdown(label="Checkpoint", scale=2, min_width=160, **offers)
        with gr.Row():
            repo = gr.Textbox(label="To the repository", placeholder="owner/name", scale=3)
            private = gr.Checkbox(label="Private", value=True, min_width=120)
        with gr.Row():
            tier = gr.Dropdown(list(TIERS), label="Enter it for the tier", value="base")
            company = gr.Textbox(label="And for company", info="empty: for everybody")
        (publish,) = acts("Publish")
        said = gr.HTML()

    def list_runs(who: GatewayClient | None) -> Any:
        shown = runs.list(user=LOCAL) if who is not None and who.role == "admin" else []
        return gr.update(choices=[(_called(one), one.run_id) for one in shown if _steps(one)])

    def list_steps(who: GatewayClient | None, run_id: str | None) -> Any:
        if who is None or who.role != "admin" or not run_id:
            return gr.update(choices=[], value=None)
        return _offer(_own(runs, run_id))

    async def foresee(who: GatewayClient | None, *values: Any) -> str:
        await _admin(who)
        return await asyncio.to_thread(_foresee, hub, runs, Publication(*values))

    async def act(who: GatewayClient | None, *values: Any) -> AsyncIterator[str]:
        await _admin(who)
        publication = Publication(*values)
        run = _chosen(runs, publication)

        async def work(heard: Callable[[str], None]) -> str:
            return await _publish(signed_in(who), hub, run, publication, heard)

        async for step in to_the_end(work):
            yield step

    gr.on([opened.expand, run.focus], list_runs, client, run, queue=False, **QUIET)
    run.change(list_steps, [client, run], checkpoint, queue=False, **QUIET)
    inputs = [client, run, checkpoint, repo, private, tier, company]
    with opened:
        done = ask_once(publish, inputs, warn=foresee, act=act, said=said)
    return Publishing(place, done)


async def _admin(who: GatewayClient | None) -> None:
    # Asked anew each time: a key may have been revoked since the page was opened.
    if (await signed_in(who).me())["role"] != "admin":
        raise TierError("only an admin of the whole service publishes here", code="forbidden")


def _own(runs: RunStore, run_id: str) -> Run:
    """Return a run of the local user; visitors of the Studio publish their own runs."""
    run = runs.get(run_id)
    if run.user != LOCAL:
        raise RunError(f"no run {run_id}", hint="choose one of the list", code="run_not_found")
    return run


def _steps(run: Run) -> list[str]:
    return sorted(path.name for path in run.path.glob("checkpoints/step-*"))


def _called(run: Run) -> str:
    return f"{run.name} · {run.state} at step {run.step:,} · {run.run_id[-4:]}"


def _offer(run: Run) -> Any:
    """Offer a run's checkpoints, the newest first, the best one chosen."""
    steps = _steps(run)
    if not steps:
        return gr.update(choices=[], value=None)
    best = publishing.best(run).name
    named = [
        (f"step {int(step.partition('-')[2]):,}{', the best' if step == best else ''}", step)
        for step in reversed(steps)
    ]
    return gr.update(choices=named, value=best)


def _chosen(runs: RunStore, publication: Publication) -> Run:
    if not publication.run_id or not publication.checkpoint:
        raise TierError("which checkpoint?", hint="choose a run, and one of its checkpoints")
    return _own(runs, publication.run_id)


def _foresee(hub: str | None, runs: RunStore, publication: Publication) -> str:
    run = _chosen(runs, publication)
    folder = control.checkpoint_folder(run, str(publication.checkpoint))
    does, card = publishing.foresee(folder, publication.repo, publication.private, Hub(hub))
    whose = f"of {publication.company.strip()}" if publication.company.strip() else "for everybody"
    return (
        f"<p><b>{escape(publication.repo.strip())}</b> {escape(does)}: {escape(folder.name)} of"
        f" {escape(run.name)}, once a fresh process reproduced its loss. Then it is entered for the"
        f" {escape(publication.tier)} tier {escape(whose)}; it answers no request before it is"
        f" deployed.</p><p>Its card begins:</p><div class='sample'>{escape(card)}</div>"
    )


async def _publish(
    who: GatewayClient,
    hub: str | None,
    run: Run,
    publication: Publication,
    heard: Callable[[str], None],
) -> str:
    """Publish, then enter what the hub says is there."""
    heard("The checkpoint is looked at")
    done = await asyncio.to_thread(
        lambda: publishing.publish(
            run,
            publication.repo,
            publication.private,
            Visitor(LOCAL),
            checkpoint=str(publication.checkpoint),
            hub=hub,
            heard=heard,
        )
    )
    there = f"{done['repo']}@{done['commit']}"
    said = f"{'Published' if done['committed'] else 'Nothing new'}: {there}"
    found = await asyncio.to_thread(published.published, Hub(hub), there)
    try:
        model_id = await published.enter(who, found, publication.tier, publication.company)
    except TierError as error:
        return f"{said}; not entered: {error.message}"
    return f"{said}, entered as {model_id}"
