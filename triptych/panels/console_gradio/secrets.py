"""Secrets of providers and Spaces: entered, replaced, removed, and never shown again."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.tab import (
    QUIET,
    acts,
    ask_once,
    complaint,
    picked,
    picking_table,
    signed_in,
)
from triptych.panels.gateway_client import GatewayClient, segment

COLUMNS = {
    "name": "name",
    "hint": "ends with",
    "used_by": "used by",
    "updated_at": "entered",
    "updated_by": "by",
}


def draw(client: gr.State, said: gr.HTML) -> tuple[gr.HTML, list[Any]]:
    """Draw the table and its form.

    Returns: the table, and the events after which it should be read again.
    """
    table = picking_table()
    with gr.Row():
        name = gr.Textbox(label="Name of the secret", placeholder="HF_TOKEN", min_width=160)
        value = gr.Textbox(label="Secret", type="password", min_width=220,
                           info="write-only: it is never shown again")  # fmt: skip
    save, remove = acts("Enter secret", "Remove secret")
    table.click(picked, None, name, **QUIET)

    async def enter(who: GatewayClient | None, named: str, typed: str) -> tuple[Any, str]:
        try:
            done = await _save(who, named, typed)
        except TierError as error:
            return gr.skip(), complaint(error)
        return "", f'<p role="status">{escape(done)}</p>'

    saved = save.click(enter, [client, name, value], [value, said], **QUIET)
    removed = ask_once(remove, [client, name], warn=_foresee, act=_remove, said=said)
    return table, [saved, removed]


async def load(who: GatewayClient) -> str:
    """Draw the names of all secrets, who uses them and how they end."""
    answer = await who.ask("GET", "/admin/secrets")
    rows = [*answer["secrets"]]
    rows += [
        {**row, "hint": "set in the environment" if row["is_set"] else "missing"}
        for row in answer["from_environment"]
    ]
    return drawing.table(
        rows, COLUMNS, "No secret yet: Spaces that are public need none.", pick="name"
    )


def _path(name: str) -> str:
    if not name.strip():
        raise TierError("which secret?", hint="type the name that an address names")
    return f"/admin/secrets/{segment(name)}"


async def _save(who: GatewayClient | None, name: str, value: str) -> str:
    if not value.strip():
        raise TierError("the secret is empty", hint="paste it into the field")
    kept = await signed_in(who).ask("PUT", _path(name), {"value": value.strip()})
    return f"Secret {name.strip()} saved, ending with {kept['hint']}"


async def _foresee(who: GatewayClient | None, name: str) -> str:
    path = _path(name)
    answer = await signed_in(who).ask("GET", "/admin/secrets")
    row = next((row for row in answer["secrets"] if row["name"] == name.strip()), None)
    if row is None:
        raise TierError(f"there is no secret {name.strip()!r}", hint=f"nothing is at {path}")
    users = ", ".join(row["used_by"]) or "no provider"
    return (
        f"<p>Used by: <b>{escape(users)}</b>. Addresses that need it are out of use with the same"
        " act.</p>"
    )


async def _remove(who: GatewayClient | None, name: str) -> str:
    done = await signed_in(who).ask("DELETE", _path(name))
    stopped = ", ".join(done["upstreams_stopped"])
    return f"Removed: {name.strip()}" + (f"; out of use: {stopped}" if stopped else "")
