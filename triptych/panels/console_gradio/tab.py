"""What the tabs of the Console share: loading, error messages, one confirmation before an act."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any, cast

import gradio as gr

from triptych.errors import TierError, TriptychError

# The gateway's codes, in words.
REASONS = {
    "explicit_model": "the model was named in the request",
    "auto": "chosen by the classifier",
    "auto_off": "automatic choice is switched off",
    "auto_abstained": "the classifier was not sure",
    "auto_not_entitled": "the user is no member of the company",
    "auto_flag_disabled": "the chosen tier is switched off",
}
LABELS = {"modified": "answer was edited (preference)"}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Act = Callable[..., Awaitable[str]]
Telling = Callable[..., AsyncIterator[str]]
"""An act that takes a while, and says at each step how far it is."""
# What was begun is finished, also when the page was closed.
_UNDER_WAY: set[asyncio.Task[str]] = set()

# A table's rows are real buttons, so that a keyboard reaches them.
PICKING = """
element.addEventListener('click', event => {
  const picked = event.target.closest('[data-pick]');
  if (picked) trigger('click', {pick: picked.dataset.pick});
});
"""


@dataclass(frozen=True)
class ConsoleTab:
    """How a tab is loaded: the function, its inputs and its outputs."""

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
    """Return the client of the person who signed in.

    Raises: TierError where no user is signed in.
    """
    if client is None:
        raise TierError("sign in first", code="signed_out")
    return client


def picked(event: gr.EventData) -> str:
    """Return the row of a table that was chosen."""
    data = event._data if isinstance(event._data, dict) else {}
    return str(data.get("pick", ""))


def picking_table() -> gr.HTML:
    """Make a place for a table whose rows can be chosen."""
    return gr.HTML(js_on_load=PICKING)


def ask_once(
    button: gr.Button,
    inputs: list[Any],
    *,
    warn: Act,
    act: Act | Telling,
    said: gr.HTML,
    agree: str = "",
) -> Any:
    """Let a button say what will happen, and do it when one agrees.

    Returns: the event after which the page should be read again.
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

    hidden = gr.update(visible=False)

    async def carry_out(*values: Any) -> tuple[Any, str]:
        try:
            done = await cast(Act, act)(*values)
        except TriptychError as error:
            return hidden, complaint(error)
        return hidden, told(done)

    async def tell(*values: Any) -> AsyncIterator[tuple[Any, str]]:
        try:
            async for step in cast(Telling, act)(*values):
                yield hidden, told(step)
        except TriptychError as error:
            yield hidden, complaint(error)

    button.click(show, inputs, [box, warning, said], **QUIET)
    no.click(lambda: hidden, None, box, **QUIET)
    takes_a_while = inspect.isasyncgenfunction(act)
    return yes.click(tell if takes_a_while else carry_out, inputs, [box, said], **QUIET)


async def to_the_end(work: Callable[[Callable[[str], None]], Awaitable[str]]) -> AsyncIterator[str]:
    """Do something to its end, even where the page is closed meanwhile, and tell each step.

    `work` is given what it calls, from any thread, with each step; what it returns comes last.
    """
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[str | None] = asyncio.Queue()

    def heard(step: str) -> None:
        loop.call_soon_threadsafe(steps.put_nowait, step)

    async def done() -> str:
        return await work(heard)

    task = asyncio.create_task(done())
    _UNDER_WAY.add(task)
    task.add_done_callback(_UNDER_WAY.discard)
    task.add_done_callback(lambda _: steps.put_nowait(None))
    while (step := await steps.get()) is not None:
        yield step
    yield task.result()


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
