"""The room of models: what was trained from what, measured how, served where; two side by side."""

from __future__ import annotations

from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console import drawing
from triptych.panels.console.client import GatewayClient
from triptych.panels.console.room import QUIET, Room, complaint, picked, picking_table

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
    "parent_model_id": "grown from",
    "run_id": "by run",
    "dataset_hash": "on data",
    "hf_space_id": "served in",
    "evaluation": "measured",
    "hyperparameters": "with",
    "is_tainted": "saw test data",
}


def draw(client: gr.State) -> Room:
    """Draw the room; the last two models chosen stand side by side."""
    gr.Markdown("Train and publish in the [Studio](/studio/), deploy under Spaces.")
    table = picking_table()
    chosen = gr.State([])
    beside = gr.HTML()

    async def choose(
        who: GatewayClient | None, before: list[str], event: gr.EventData
    ) -> tuple[list[str], str]:
        kept = [*[name for name in before if name != picked(event)][-1:], picked(event)]
        return kept, await _beside(who, kept)

    table.click(choose, [client, chosen], [chosen, beside], **QUIET)
    return Room(_load, [client], [table])


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
        rows, COLUMNS, "No model is registered yet: what the Studio publishes can be.",
        pick="model_id",
    )  # fmt: skip


async def _beside(who: GatewayClient | None, chosen: list[str]) -> str:
    if who is None:
        return ""
    try:
        rows = {row["model_id"]: row for row in await _rows(who)}
    except TierError as error:
        return complaint(error)
    return drawing.facts([rows[name] for name in chosen if name in rows], COLUMNS | LINEAGE)
