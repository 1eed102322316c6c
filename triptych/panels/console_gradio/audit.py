"""The tab of the audit: who did what, when, before and after; and whether the chain is sound."""

from __future__ import annotations

from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.tab import QUIET, ConsoleTab, act_on, complaint, signed_in
from triptych.panels.gateway_client import GatewayClient

PAGE = 50


def draw(client: gr.State) -> ConsoleTab:
    """Draw this tab."""
    with gr.Row():
        subject = gr.Textbox(label="About", placeholder="flags/*, keys/*, companies/acme")
        look = gr.Button("Refresh", variant="primary")
        older = gr.Button("Older", interactive=False)
        verify = gr.Button("Verify the chain")
    said = gr.HTML()
    rows = gr.HTML()
    last = gr.State(None)
    outputs = [rows, last, older]

    async def load(who: GatewayClient | None, about: str) -> tuple[Any, ...]:
        return await _page(who, about, None)

    async def further(who: GatewayClient | None, about: str, end: int | None) -> tuple[Any, ...]:
        return await _page(who, about, end)

    gr.on([look.click, subject.submit], load, [client, subject], outputs, **QUIET)
    older.click(further, [client, subject, last], outputs, **QUIET)
    act_on(verify, [client], _verify, said)
    return ConsoleTab(load, [client, subject], outputs)


async def _page(who: GatewayClient | None, about: str, before: int | None) -> tuple[Any, ...]:
    if who is None:
        return "", None, gr.skip()
    try:
        answer = await who.ask(
            "GET", "/admin/audit", subject=about.strip(), before=before, limit=PAGE
        )
    except TierError as error:
        return complaint(error), before, gr.skip()
    entries = answer["entries"]
    end = entries[-1]["sequence"] if len(entries) == PAGE else None
    return drawing.audit(entries), end, gr.update(interactive=end is not None)


async def _verify(who: GatewayClient | None) -> str:
    found = await signed_in(who).ask("POST", "/admin/audit/verify")
    if found["broken_at"] is not None:
        raise TierError(
            f"entry {found['broken_at']} was changed or is missing;"
            f" {found['sound_entries']} entries before it are sound",
            hint="compare with a backup; the database was changed outside Triptych",
        )
    return f"{found['sound_entries']} entries, every one sound."
