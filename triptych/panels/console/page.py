"""The page itself: the door, and the rooms behind it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console import (
    audit,
    feedback,
    models,
    overview,
    people,
    requests,
    spaces,
    steering,
)
from triptych.panels.console.client import GatewayClient
from triptych.panels.console.room import QUIET, complaint

REFRESH_S = 5.0


def build_page(address: str, navigation: str = "", hub: str | None = None) -> gr.Blocks:
    """Draw the Console for the gateway at an address, and the hub that holds its Spaces."""
    with gr.Blocks(title="Triptych Console", analytics_enabled=False) as page:
        if navigation:
            gr.HTML(navigation)
        gr.Markdown(f"# Console\nThe tiered service at `{address}/v1`.")
        client = gr.State(None)
        with gr.Row() as door:
            key = gr.Textbox(
                label="Admin key", type="password", scale=4,
                info="the first one lies in TRIPTYCH_HOME/gateway/admin-key",
            )  # fmt: skip
            enter = gr.Button("Sign in", variant="primary", scale=1)
        trouble = gr.HTML()
        with gr.Tabs(visible=False) as tabs:
            drawn = {
                "Overview": overview.draw,
                "Providers and tiers": steering.draw,
                "Requests": requests.draw,
                "Feedback": feedback.draw,
                "Companies, users, keys": people.draw,
                "Spaces": lambda who: spaces.draw(who, hub),
                "Models": models.draw,
                "Audit": audit.draw,
            }
            rooms, only_admins = {}, []
            for name, draw in drawn.items():
                with gr.Tab(name) as tab:
                    rooms[name] = draw(client)
                if name != "Providers and tiers":  # what was chosen there outlives a look elsewhere
                    room = rooms[name]
                    tab.select(room.load, room.inputs, room.outputs, **QUIET)
                if name in ("Providers and tiers", "Spaces", "Audit"):
                    only_admins.append(tab)
        timer = gr.Timer(REFRESH_S, active=False)

        async def sign_in(typed: str) -> list[Any]:
            candidate = GatewayClient(address, typed)
            try:
                who = await candidate.me()
                if who["role"] not in ("admin", "company_admin"):
                    raise TierError("this key is not an admin's", hint="ask for one that is")
            except TierError as error:
                return [gr.skip()] * (5 + len(only_admins)) + [complaint(error)]
            everything = gr.update(visible=who["role"] == "admin")
            return [  # what was typed stays after a mistake, and goes once it has served
                candidate, gr.update(visible=False), gr.update(visible=True), "",
                gr.update(active=True), *[everything] * len(only_admins), "",
            ]  # fmt: skip

        outputs = [client, door, tabs, key, timer, *only_admins, trouble]
        signed = gr.on([enter.click, key.submit], sign_in, key, outputs, **QUIET)
        first = rooms["Overview"]
        signed.success(first.load, first.inputs, first.outputs, **QUIET)
        steer = rooms["Providers and tiers"]
        signed.success(steer.load, steer.inputs, steer.outputs, **QUIET)
        timer.tick(first.load, first.inputs, first.outputs, **QUIET)
    return page
