"""The tabs under the answers: tokens, quality curve, votes, history, code."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from triptych.errors import TriptychError
from triptych.panels.charts import line_chart
from triptych.panels.playground import drawing, snippets
from triptych.panels.playground.comparison import Comparison
from triptych.panels.playground.context import Context, Visit
from triptych.panels.playground.controls import MOST_MODELS, QUIET, Controls, read
from triptych.panels.playground.gateway import tier_of
from triptych.panels.playground.quality_curve import quality_curves
from triptych.panels.playground.snippets import Target
from triptych.panels.playground.visitor import visitor_of

# What a token's probabilities are shown beside.
TIPS = """
const place = event => {
  const token = event.target.closest('.tok'), tip = token?.querySelector('.tip');
  if (!tip) return;
  // Below its token, and moved left where it would leave the text.
  const limit = token.offsetParent.clientWidth - tip.offsetWidth;
  tip.style.setProperty('--tip-x', `${Math.max(0, Math.min(token.offsetLeft, limit))}px`);
  tip.style.setProperty('--tip-y', `${token.offsetTop + token.offsetHeight}px`);
};
element.addEventListener('pointerover', place);
element.addEventListener('focusin', place);
"""
# Whatever can be chosen is reached by mouse, finger and keyboard alike.
PICKING = """
const pick = event => {
  const picked = event.target.closest('[data-pick]');
  if (picked) { event.preventDefault(); trigger('click', {pick: picked.dataset.pick}); }
};
element.addEventListener('click', pick);
element.addEventListener('keydown', event => {
  const button = event.target.closest('[role=button][data-pick]');
  if (button && (event.key === 'Enter' || event.key === ' ')) pick(event);
});
"""


def picked(event: gr.EventData) -> str:
    """Return what was chosen."""
    data = event._data if isinstance(event._data, dict) else {}
    return str(data.get("pick", ""))


def picking() -> gr.HTML:
    """Make a place in which things can be chosen."""
    return gr.HTML(js_on_load=PICKING)


def tokens_tab(context: Context, controls: Controls, visit: gr.State) -> None:
    """Draw how surprised each model is by the prompt, token by token."""
    gr.Markdown(
        "How probable was each token for the model, having read what stands before it? "
        "The redder, the less expected. Point at a token, or step to it with Tab, to see what "
        "the model expected instead."
    )
    with gr.Row():
        along = gr.Checkbox(label="the answers too", scale=1)
        show = gr.Button("Show every token", scale=2)
    scored = gr.HTML(js_on_load=TIPS)

    async def score(
        request: gr.Request, chosen: Sequence[str] | None, text: str, also: bool, kept: Visit
    ) -> str:
        if not chosen or not text:
            raise gr.Error("choose a model and write a prompt first", duration=8)
        current = kept.current if kept else None
        if also and current is not None and current.hidden:
            raise gr.Error("vote first: this would tell the names", duration=8)
        blocks = []
        for reference in list(chosen)[:MOST_MODELS]:
            whole = text + (_answer_of(current, reference, text) if also else "")
            try:
                got = await context.score(reference, whole, visitor_of(request), alternatives=5)
                blocks.append(drawing.tokens(context.label(reference), got))
            except TriptychError as error:
                blocks.append(drawing.not_scored(context.label(reference), error))
        return "".join(blocks)

    show.click(score, [controls.models, controls.prompt, along, visit], scored, api_name="score")


def _answer_of(comparison: Comparison | None, reference: str, prompt: str) -> str:
    for column in comparison.columns if comparison else ():
        if column.entry.reference == reference and column.entry.prompt == prompt:
            return column.text
    return ""


def quality_tab(context: Context, controls: Controls, tab: gr.Tab) -> None:
    """Draw how the chosen models got better; a point chooses that checkpoint."""
    gr.Markdown(
        "Each ring is a checkpoint: choose one to compare it, once more to take it out. "
        "Bits per byte over held-out text; lower is better."
    )
    chart = picking()

    def draw(chosen: Sequence[str] | None) -> str:
        found = quality_curves(context.model_list, context.loaded_models, list(chosen or ()))
        return line_chart(
            "Validation, bits per byte",
            found.curves,
            empty="nothing is known here about how these models were trained",
            picks=found.picks,
        )

    async def choose(chosen: list[str] | None, event: gr.EventData) -> Any:
        kept, reference = list(chosen or ()), picked(event)
        if reference in kept:
            kept.remove(reference)
        else:
            kept.append(reference)
        return await _with(context, kept)

    chart.click(choose, controls.models, controls.models, **QUIET)
    gr.on([tab.select, controls.models.change], draw, controls.models, chart, queue=False, **QUIET)


def votes_tab(context: Context, visit: gr.State, tab: gr.Tab) -> Any:
    """Draw the win rates, and hand the votes out as a file.

    Returns: a function that redraws them after an event.
    """
    with gr.Row():
        blind = gr.Checkbox(label="only blind votes", scale=1)
        export = gr.Button("Export as JSON lines", scale=2)
    file = gr.File(label="One preference a line", visible=False)
    rates = gr.HTML()

    def draw(blind_only: bool) -> str:
        counted = context.votes.win_rates(blind_only=blind_only)
        return drawing.win_rates(counted, len(context.votes.votes(blind_only=blind_only)))

    def write(kept: Visit) -> Any:
        path = Path(tempfile.mkdtemp(prefix="triptych-")) / "preferences.jsonl"
        # What others wrote is theirs: a shared page hands out only the visitor's own votes.
        only = kept.voted if context.model_list.is_shared else None
        if not context.votes.export(path, only):
            raise gr.Error("there is no vote between two answers yet", duration=8)
        return gr.update(value=str(path), visible=True)

    gr.on([tab.select, blind.change], draw, blind, rates, **QUIET)
    export.click(write, visit, file, **QUIET)
    return lambda event: event.then(draw, blind, rates, **QUIET)


def code_tab(context: Context, controls: Controls, tab: gr.Tab, here: gr.Textbox) -> None:
    """Draw the comparison as code."""
    gr.Markdown("What is set above, as code. It asks this page's own server, and runs as it is.")
    with gr.Tabs():
        with gr.Tab("Python"):
            plain = gr.Code(language="python", label="nothing to install", interactive=False)
        with gr.Tab("openai SDK"):
            sdk = gr.Code(language="python", label="pip install openai", interactive=False)
        with gr.Tab("curl"):
            command = gr.Code(language="shell", label="shell", interactive=False)

    async def write(address: str, *values: Any) -> tuple[str, str, str]:
        try:
            asked = read(values, context.config)
        except TriptychError as error:
            return (f"# {error.message}",) * 3
        texts = []
        for form in (snippets.python, snippets.openai_sdk, snippets.curl):
            parts = []
            # A chat model and one that continues text are asked at different addresses.
            for chat in (True, False):
                targets = [
                    _target(context, reference, address)
                    for reference in asked.references
                    if (context.is_chat(reference) if asked.chat is None else asked.chat) is chat
                ]
                if targets:
                    parts.append(form(targets, asked.prompt, asked.sampling, chat=chat))
            texts.append("\n\n".join(parts))
        return texts[0], texts[1], texts[2]

    # Also while the tab is open: an experiment and a link set the controls as well.
    changes = [control.change for control in controls.all]
    outputs = [plain, sdk, command]
    gr.on(
        [tab.select, *changes], write, [here, *controls.all], outputs,
        trigger_mode="always_last", queue=False, **QUIET,
    )  # fmt: skip


def _target(context: Context, reference: str, address: str) -> Target:
    tier = tier_of(reference)
    if tier is not None and context.gateway is not None:
        return Target(f"{context.gateway.address}/v1", tier, needs_key=True)
    base = address.partition("?")[0].rstrip("/").removesuffix("/playground")
    model = context.loaded_models.known(reference)
    return Target(f"{base}/models/v1", model.name if model else reference)


def draw_search(context: Context) -> tuple[gr.Textbox, gr.Button, gr.HTML] | None:
    """Draw the way to repositories on the hub, where visitors may open them."""
    if context.model_list.hub_models == "none":
        return None
    with gr.Accordion("More models, from the hub", open=False):
        with gr.Row(elem_classes="acts"):
            words = gr.Textbox(
                label="Search", placeholder="part of a name, or owner/name",
                info="the whole name lists its checkpoints", scale=4,
            )  # fmt: skip
            search = gr.Button("Search", scale=1, min_width=100)
        return words, search, picking()


def wire_search(
    drawn: tuple[gr.Textbox, gr.Button, gr.HTML], context: Context, models: gr.Dropdown
) -> None:
    """Let the search find repositories, and what was found be chosen."""
    words, search, results = drawn

    async def look(text: str) -> str:
        try:
            return drawing.found(await asyncio.to_thread(context.model_list.search, text or ""))
        except TriptychError as error:
            return drawing.complaint(error)

    async def add(chosen: list[str] | None, event: gr.EventData) -> Any:
        return await _with(context, [*(chosen or ()), picked(event)])

    gr.on([search.click, words.submit], look, words, results, **QUIET)
    results.click(add, models, models, **QUIET)


async def _with(context: Context, references: Sequence[str]) -> Any:
    """Choose models, listed or not."""
    kept = list(dict.fromkeys(references))
    if len(kept) > MOST_MODELS:
        gr.Warning(f"At most {MOST_MODELS} at once: take one out first.")
        return gr.skip()
    listed = [(choice.label, choice.reference) for choice in await context.choices()]
    known = {reference for _, reference in listed}
    listed += [(context.label(other), other) for other in kept if other not in known]
    return gr.update(choices=listed, value=kept)
