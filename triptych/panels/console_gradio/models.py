"""The tab of models: what was trained from what, measured how, served where; two side by side.

A published model is entered with the record that was published beside it, so that its lineage is
what the run recorded and not what was typed.
"""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.hub.client import Hub
from triptych.lm.runs.store import RunStore
from triptych.panels.console.models import published
from triptych.panels.console_gradio import drawing, publishing
from triptych.panels.console_gradio.tab import (
    QUIET,
    ConsoleTab,
    acts,
    ask_once,
    complaint,
    picked,
    picking_table,
    signed_in,
)
from triptych.panels.gateway_client import GatewayClient
from triptych.wire.tiers import TIERS

COLUMNS = {
    "model_id": "id",
    "name": "name",
    "tier": "tier",
    "company_id": "company",
    "hf_model_id": "repository",
    "revision": "revision",
    "is_active": "active",
    "created_at": "since",
}
LINEAGE = {
    "parent_model_id": "parent model",
    "run_id": "by run",
    "dataset_hash": "on data",
    "hf_space_id": "served in",
    "evaluation": "measured",
    "hyperparameters": "with",
    "is_tainted": "saw test data",
}


def draw(client: gr.State, hub: str | None, runs: RunStore | None = None) -> ConsoleTab:
    """Draw this tab; the last two models chosen stand side by side."""
    gr.Markdown(
        "Train in the [Studio](/studio/); enter here what was published, and bring it live under"
        " Spaces: name its repository and revision there."
    )
    said = gr.HTML()
    table = picking_table()
    chosen = gr.State([])
    beside = gr.HTML()
    with gr.Row(visible=False) as form:
        model = gr.Textbox(label="Published model", placeholder="owner/name@revision", scale=2)
        tier = gr.Dropdown(list(TIERS), label="For the tier", value="base", min_width=120)
        company = gr.Textbox(label="Of company", info="empty: for everybody", min_width=120)
    with gr.Column(visible=False) as acting:
        (enter,) = acts("Enter model")
        inputs = [client, model, tier, company]

        async def foresee(who: GatewayClient | None, *typed: str) -> str:
            return await _foresee(who, hub, *typed)

        async def register(who: GatewayClient | None, *typed: str) -> str:
            return await _register(who, hub, *typed)

        entered = ask_once(enter, inputs, warn=foresee, act=register, said=said)

    publish = publishing.draw(client, hub, runs) if runs is not None else None

    async def choose(
        who: GatewayClient | None, before: list[str], event: gr.EventData
    ) -> tuple[list[str], str]:
        kept = [*[name for name in before if name != picked(event)][-1:], picked(event)]
        return kept, await _beside(who, kept)

    outputs = [table, form, acting, *([publish.place] if publish else [])]

    async def load(who: GatewayClient | None) -> list[Any]:
        everything = gr.update(visible=who is not None and who.role == "admin")
        return [await _load(who), *[everything] * (len(outputs) - 1)]

    table.click(choose, [client, chosen], [chosen, beside], **QUIET)
    for event in (entered, *([publish.done] if publish else [])):
        event.then(load, client, outputs, **QUIET)
    return ConsoleTab(load, [client], outputs)


async def _rows(who: GatewayClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await who.ask("GET", "/api/models"))["models"]
    return rows


async def _load(who: GatewayClient | None) -> str:
    if who is None:
        return ""
    try:
        rows = await _rows(who)
    except TierError as error:
        return complaint(error)
    return drawing.table(
        rows, COLUMNS, "No model is entered yet: what the Studio publishes can be.",
        pick="model_id", narrow=("name", "hf_model_id", "created_at"),
        clipped=("model_id", "revision"),
    )  # fmt: skip


async def _beside(who: GatewayClient | None, chosen: list[str]) -> str:
    if who is None:
        return ""
    try:
        rows = {row["model_id"]: row for row in await _rows(who)}
    except TierError as error:
        return complaint(error)
    return drawing.facts([rows[name] for name in chosen if name in rows], COLUMNS | LINEAGE)


async def _foresee(
    who: GatewayClient | None, hub: str | None, reference: str, tier: str, company: str
) -> str:
    signed_in(who)
    found = await asyncio.to_thread(published.published, Hub(hub), reference)
    run = f"made by run {found['run_id']}" if found.get("run_id") else "without a record of its run"
    whose = f"of {company.strip()}" if company.strip() else "for everybody"
    return (
        f"<p><b>{escape(found['name'])}@{escape(found['revision'][:12])}</b>, {escape(run)}, is"
        f" entered for the {escape(tier)} tier {escape(whose)}. It answers no request before it"
        " is deployed.</p>"
    )


async def _register(
    who: GatewayClient | None, hub: str | None, reference: str, tier: str, company: str
) -> str:
    found = await asyncio.to_thread(published.published, Hub(hub), reference)
    model_id = await published.enter(signed_in(who), found, tier, company)
    return f"Model {found['name']} added ({model_id})"
