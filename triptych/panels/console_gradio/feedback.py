"""The tab of feedback: what people said, corrections beside the answer, export for training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.tab import (
    QUIET,
    ConsoleTab,
    complaint,
    picked,
    picking_table,
    told,
)
from triptych.panels.gateway_client import GatewayClient, segment

KINDS = ["", "rating", "thumb", "correction", "comment", "preference", "automatic"]
PAGE = 50
NOT_KEPT = "not kept: its author had not consented to training"


def draw(client: gr.State) -> ConsoleTab:
    """Draw this tab."""
    with gr.Row():
        kind = gr.Dropdown(KINDS, label="Kind", value="", min_width=140)
        company = gr.Textbox(label="Company", min_width=140)
        look = gr.Button("Refresh", variant="primary")
        older = gr.Button("Older", interactive=False)
    rows = picking_table()
    beside = gr.HTML()
    gr.Markdown(
        "Choose a row to see the answer beside what was said about it. Training examples are"
        " exported only where consent allowed keeping their content."
    )
    export = gr.Button("Export training examples", elem_classes="act")
    said = gr.HTML()
    file = gr.File(label="Examples, one JSON object a line", visible=False)
    last = gr.State(None)
    shown = gr.State({})
    outputs = [rows, last, older, shown]

    async def load(who: GatewayClient | None, wanted: str, about: str) -> tuple[Any, ...]:
        return await _page(who, wanted, about, None)

    async def further(who: Any, wanted: str, about: str, end: float | None) -> tuple[Any, ...]:
        return await _page(who, wanted, about, end)

    async def choose(who: GatewayClient | None, known: dict[str, Any], event: gr.EventData) -> Any:
        row = known.get(picked(event))
        return await _beside(who, row) if row else gr.skip()

    gr.on([look.click, kind.change, company.submit], load, [client, kind, company], outputs,
          **QUIET)  # fmt: skip
    older.click(further, [client, kind, company, last], outputs, **QUIET)
    rows.click(choose, [client, shown], beside, **QUIET)
    export.click(_export, [client, company], [file, said], **QUIET)
    return ConsoleTab(load, [client, kind, company], outputs)


async def _page(
    who: GatewayClient | None, kind: str, company: str, before: float | None
) -> tuple[Any, ...]:
    if who is None:
        return "", None, gr.skip(), {}
    try:
        answer = await who.ask(
            "GET", "/api/feedback", kind=kind, company_id=company.strip(), before=before, limit=PAGE
        )
    except TierError as error:
        return complaint(error), before, gr.skip(), {}
    found = answer["feedback"]
    end = found[-1]["created_at"] if len(found) == PAGE else None
    return (
        drawing.feedback(found), end, gr.update(interactive=end is not None),
        {row["feedback_id"]: row for row in found},
    )  # fmt: skip


async def _beside(who: GatewayClient | None, row: dict[str, Any]) -> str:
    """Put what was answered and what was said about it side by side, for who may read content."""
    if who is None:
        return ""
    try:
        kept = await who.ask("GET", f"/api/requests/{segment(row['request_id'])}/content")
    except TierError as error:
        if error.code == "content_not_kept":
            return drawing.beside({"messages": [], "answer": NOT_KEPT}, row)
        return complaint(error)
    return drawing.beside(kept, row)


async def _export(who: GatewayClient | None, company: str) -> tuple[Any, str]:
    if who is None:
        return gr.skip(), ""
    path = Path(tempfile.mkdtemp(prefix="triptych-")) / "feedback.jsonl"
    written = 0
    try:
        with path.open("wb") as out:
            async for line in who.lines("/api/feedback/export", company_id=company.strip()):
                written += 1
                out.write(line)
    except TierError as error:
        return gr.skip(), complaint(error)
    if not written:
        return gr.update(visible=False), (
            '<p class="quiet">No example yet: no user who consented has given feedback.</p>'
        )
    return gr.update(value=str(path), visible=True), told(f"{written} examples.")
