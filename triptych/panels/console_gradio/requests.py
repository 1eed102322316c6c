"""The tab of requests: filter, page by key, one request as a waterfall of attempts."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.tab import (
    QUIET,
    ConsoleTab,
    acts,
    complaint,
    picked,
    picking_table,
)
from triptych.panels.gateway_client import GatewayClient, segment
from triptych.wire.tiers import TIERS

PAGE = 50
ANY_TIER = ["", *TIERS]
OUTCOMES = ["", "ok", "failed", "refused", "cancelled", "interrupted"]
PROVIDERS = ["", "openai", "hf_spaces", "local", "scripted"]
SINCE = {"last hour": 3600.0, "last day": 86_400.0, "last week": 604_800.0, "ever": 0.0}


def draw(client: gr.State) -> ConsoleTab:
    """Draw this tab; what is asked for stays in the filters when something fails."""
    filters, request_id = _draw_filters()
    with gr.Row():
        refresh = gr.Button("Refresh", variant="primary")
        newer = gr.Button("Newer", interactive=False)
        older = gr.Button("Older", interactive=False)
    rows = picking_table()
    one = gr.HTML()
    (reveal,) = acts("Show what was written")
    gr.Markdown(
        "Content is there only where consent allowed keeping it, needs a key that may read it, and"
        " every look is audited."
    )
    content = gr.HTML()
    pages = gr.State([None])
    outputs = [rows, pages, newer, older]

    async def load(who: GatewayClient | None, *wanted: str) -> tuple[Any, ...]:
        return await _page(who, wanted, [None])

    async def step(
        who: GatewayClient | None, trail: list[Any], by: int, wanted: tuple[str, ...]
    ) -> tuple[Any, ...]:
        # The trail ends with where the next page begins; the page on show began one before.
        kept = trail if by > 0 else trail[:-2]
        return await _page(who, wanted, kept or [None])

    async def forward(who: Any, trail: list[Any], *wanted: str) -> tuple[Any, ...]:
        return await step(who, trail, 1, wanted)

    async def back(who: Any, trail: list[Any], *wanted: str) -> tuple[Any, ...]:
        return await step(who, trail, -1, wanted)

    async def show(who: GatewayClient | None, typed: str) -> str:
        return await _one(who, typed.strip())

    async def choose(who: GatewayClient | None, event: gr.EventData) -> tuple[str, str]:
        chosen = picked(event)
        return (chosen, await _one(who, chosen)) if chosen else (gr.skip(), gr.skip())

    changes = [box.change if isinstance(box, gr.Dropdown) else box.submit for box in filters]
    gr.on([refresh.click, *changes], load, [client, *filters], outputs, **QUIET)
    older.click(forward, [client, pages, *filters], outputs, **QUIET)
    newer.click(back, [client, pages, *filters], outputs, **QUIET)
    request_id.submit(show, [client, request_id], one, **QUIET)
    reveal.click(_content, [client, request_id], content, **QUIET)
    gr.on([request_id.change], lambda: "", None, content, **QUIET)
    rows.click(choose, client, [request_id, one], **QUIET)
    return ConsoleTab(load, [client, *filters], outputs)


def _draw_filters() -> tuple[list[gr.Dropdown | gr.Textbox], gr.Textbox]:
    """Draw the filters of the list, and the field for the id of one request."""
    with gr.Row():
        tier = gr.Dropdown(ANY_TIER, label="Tier asked", value="", min_width=120)
        served = gr.Dropdown(ANY_TIER, label="Tier served", value="", min_width=120)
        provider = gr.Dropdown(PROVIDERS, label="Provider", value="", min_width=120)
        outcome = gr.Dropdown(OUTCOMES, label="Outcome", value="", min_width=120)
        since = gr.Dropdown(list(SINCE), label="Since", value="last day", min_width=120)
    with gr.Row():
        company = gr.Textbox(label="Company", min_width=120)
        user = gr.Textbox(label="User", min_width=120)
        key = gr.Textbox(label="Key id", min_width=120)
        error_code = gr.Textbox(label="Error code", min_width=120)
        request_id = gr.Textbox(label="Request id", placeholder="req_…", min_width=160)
    return [tier, served, provider, outcome, since, company, user, key, error_code], request_id


async def _page(
    who: GatewayClient | None, wanted: tuple[str, ...], trail: list[Any]
) -> tuple[Any, ...]:
    """Read the page that begins at the end of the trail."""
    if who is None:
        return "", [None], gr.skip(), gr.skip()
    tier, served, provider, outcome, since, company, user, key, error_code = (
        text.strip() for text in wanted
    )
    span = SINCE.get(since, 0.0)
    try:
        answer = await who.ask(
            "GET", "/api/requests", tier_asked=tier, tier_served=served, provider=provider,
            outcome=outcome, company_id=company, user_id=user, key_id=key, error_code=error_code,
            since=time.time() - span if span else None, after=trail[-1], limit=PAGE,
        )  # fmt: skip
    except TierError as error:
        return complaint(error), trail, gr.skip(), gr.skip()
    following = answer["next"]
    # A trail of [None, b] shows the first page; its end is None when no page follows.
    shown = [*trail, following]
    return (
        drawing.requests(answer["requests"]),
        shown,
        gr.update(interactive=len(shown) > 2),
        gr.update(interactive=following is not None),
    )


async def _one(who: GatewayClient | None, request_id: str) -> str:
    if who is None or not request_id:
        return ""
    try:
        found = await who.one_request(request_id)
    except TierError as error:
        return complaint(error)
    return drawing.waterfall(found)


async def _content(who: GatewayClient | None, request_id: str) -> str:
    """Show the kept texts of a request to a user who may read them."""
    if who is None:
        return ""
    if not request_id.strip():
        return complaint(TierError("which request?", hint="choose one above"))
    try:
        kept = await who.ask("GET", f"/api/requests/{segment(request_id)}/content")
    except TierError as error:
        return complaint(error)
    return drawing.conversation(kept)
