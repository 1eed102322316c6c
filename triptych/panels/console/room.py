"""What the rooms of the Console share: how one is loaded, how it complains, how it asks once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError, TriptychError

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Act = Callable[..., Awaitable[str]]

# A table's rows are real buttons, so that a keyboard reaches them.
PICKING = """
element.addEventListener('click', event => {
  const picked = event.target.closest('[data-pick]');
  if (picked) trigger('click', {pick: picked.dataset.pick});
});
"""


@dataclass(frozen=True)
class Room:
    """Say how a room is read again: what it is asked with, and what it fills."""

    load: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any] = field(default_factory=list)


def complaint(error: TriptychError) -> str:
    """Draw what went wrong and what to do next."""
    hint = f" {escape(error.hint)}" if error.hint else ""
    return f'<p role="alert" class="trouble"><b>{escape(error.message)}</b>{hint}</p>'


def told(text: str) -> str:
    """Draw what was done, for eyes and for screen readers."""
    return f'<p role="status">{escape(text)}</p>'


def signed_in(client: Any) -> Any:
    """Give the client of the person who signed in.

    Raises: TierError where nobody did.
    """
    if client is None:
        raise TierError("sign in first", code="signed_out")
    return client


def picked(event: gr.EventData) -> str:
    """Say which row of a table was chosen."""
    data = event._data if isinstance(event._data, dict) else {}
    return str(data.get("pick", ""))


def picking_table() -> gr.HTML:
    """Make a place for a table whose rows can be chosen."""
    return gr.HTML(js_on_load=PICKING)


def ask_once(
    button: gr.Button, inputs: list[Any], *, warn: Act, act: Act, said: gr.HTML, agree: str = ""
) -> Any:
    """Let a button say what will happen, and do it when one agrees.

    Returns: the event after which the room should be read again.
    """
    label = str(button.value)
    with gr.Column(visible=False, elem_classes="asking") as box:
        warning = gr.HTML()
        with gr.Row():
            yes = gr.Button(agree or f"Yes, {label[0].lower()}{label[1:]}", variant="stop")
            no = gr.Button("No, leave it")

    async def show(*values: Any) -> tuple[Any, str, str]:
        try:
            words = await warn(*values)
        except TriptychError as error:
            return gr.update(visible=False), "", complaint(error)
        return gr.update(visible=True), f'<div role="alert">{words}</div>', ""

    async def carry_out(*values: Any) -> tuple[Any, str]:
        try:
            done = await act(*values)
        except TriptychError as error:
            return gr.update(visible=False), complaint(error)
        return gr.update(visible=False), told(done)

    button.click(show, inputs, [box, warning, said], **QUIET)
    no.click(lambda: gr.update(visible=False), None, box, **QUIET)
    return yes.click(carry_out, inputs, [box, said], **QUIET)


def acts(*labels: str) -> list[gr.Button]:
    """Make buttons in a row."""
    with gr.Row(elem_classes="act-buttons"):
        return [gr.Button(label, elem_classes="act") for label in labels]


def act_on(button: gr.Button, inputs: list[Any], act: Act, said: gr.HTML) -> Any:
    """Let a button do something that can be undone; what was typed stays where it is."""

    async def carry_out(*values: Any) -> str:
        try:
            return told(await act(*values))
        except TriptychError as error:
            return complaint(error)

    return button.click(carry_out, inputs, said, **QUIET)
