"""The page itself: choose models, write a prompt, compare what they write.

Everything that made a comparison is in the address, so that it can be sent to somebody.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from triptych.config import Config
from triptych.config.generate import Sampling
from triptych.errors import TriptychError
from triptych.lm.runs.store import RunStore
from triptych.panels.charts import line_chart
from triptych.panels.playground import drawing
from triptych.panels.playground.contest import contest
from triptych.panels.playground.models import Shelf, choices, journey

MOST_MODELS = 4

SHOW_STATE = """(state) => {
  const url = new URL(window.location);
  url.search = state ? '?c=' + encodeURIComponent(state) : '';
  window.history.replaceState({}, '', url);
}"""


def build_page(
    config: Config,
    store: RunStore,
    shelf: Shelf,
    named: Sequence[str] = (),
    navigation: str = "",
) -> gr.Blocks:
    """Draw the Playground over the models of this machine and those named at the start."""
    defaults = config.generate
    with gr.Blocks(title="Triptych Playground", analytics_enabled=False) as page:
        if navigation:
            gr.HTML(navigation)
        gr.Markdown("# Playground\nOne prompt, several models, side by side.")
        models = gr.Dropdown(
            [],
            multiselect=True,
            max_choices=MOST_MODELS,
            label="Models",
            info="up to four; checkpoints of one run show how it learned",
        )
        prompt = gr.Textbox(label="Prompt", lines=3, value="The ", autofocus=True)
        with gr.Row():
            write = gr.Button("Write", variant="primary")
            stop = gr.Button("Stop")
        with gr.Accordion("Sampling", open=False), gr.Row():
            sampling, dice = _sampling_controls(defaults)
        answers = gr.HTML()
        with gr.Accordion("How surprised is each model by the prompt?", open=False):
            surprise = gr.Button("Show token probabilities of the prompt")
            tokens = gr.HTML()
        with gr.Accordion("How they learned", open=False):
            learned = gr.HTML()
        state = gr.Textbox(visible="hidden")

        controls = [models, prompt, *sampling]
        _wire(page, config, store, shelf, named, controls, state, answers, write, stop)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        dice.click(lambda: random.randrange(1, 10_000), None, sampling[-1], queue=False, **quiet)
        models.change(
            lambda chosen: _journey(store, chosen or []), models, learned, queue=False, **quiet
        )
        surprise.click(
            lambda chosen, text: _surprise(shelf, store, named, chosen or [], text),
            [models, prompt],
            tokens,
            api_name="score",
        )
    page.queue(default_concurrency_limit=config.panels.generations_per_visitor)
    return page


def _sampling_controls(defaults: Sampling) -> tuple[list[Any], gr.Button]:
    """Draw every sampling parameter with a line that explains it; the seed is the last."""
    temperature = gr.Slider(
        0, 2, defaults.temperature, step=0.05, label="Temperature",
        info="0 always takes the likeliest token; higher is bolder",
    )  # fmt: skip
    top_k = gr.Slider(
        0, 200, defaults.top_k, step=1, label="Top-k",
        info="choose among the k likeliest tokens; 0 among all",
    )  # fmt: skip
    top_p = gr.Slider(
        0.05, 1, defaults.top_p, step=0.05, label="Top-p",
        info="choose among the likeliest that together reach p",
    )  # fmt: skip
    min_p = gr.Slider(
        0, 1, defaults.min_p, step=0.01, label="Min-p",
        info="leave out tokens far less likely than the likeliest",
    )  # fmt: skip
    penalty = gr.Slider(
        1, 2, defaults.repetition_penalty, step=0.05, label="Repetition penalty",
        info="above 1 makes repeating itself less likely",
    )  # fmt: skip
    length = gr.Slider(
        1, 512, min(defaults.max_new_tokens, 512), step=1, label="New tokens",
        info="where writing ends at the latest",
    )  # fmt: skip
    seed = gr.Number(1, precision=0, label="Seed", info="the same seed gives the same text")
    dice = gr.Button("New seed")
    return [temperature, top_k, top_p, min_p, penalty, length, seed], dice


def _wire(
    page: gr.Blocks,
    config: Config,
    store: RunStore,
    shelf: Shelf,
    named: Sequence[str],
    controls: list[Any],
    state: gr.Textbox,
    answers: gr.HTML,
    write: gr.Button,
    stop: gr.Button,
) -> None:
    def compare(*values: Any) -> Iterator[tuple[str, str]]:
        references, text = list(values[0] or []), str(values[1])
        _refuse(config, references, text)
        saved = json.dumps([references, *values[1:]], ensure_ascii=False)
        names = _names(store, named, references)
        try:
            for columns in contest(shelf, references, text, _sampling(values)):
                yield drawing.answers(columns, names, text), saved
        except TriptychError as error:
            raise gr.Error(str(error), duration=10) from error

    asked = gr.on(
        [write.click, controls[1].submit],
        compare,
        controls,
        [answers, state],
        show_progress="hidden",
        api_name="compare",
    )
    stop.click(None, cancels=[asked], queue=False, api_visibility="private")
    state.change(None, state, None, js=SHOW_STATE, queue=False, api_visibility="private")

    def arrive(request: gr.Request) -> list[Any]:
        listed = [(choice.label, choice.reference) for choice in choices(store, named)]
        known = [reference for _, reference in listed]
        saved = dict(request.query_params).get("c") if request else None
        values = _restored(saved, len(controls))
        if values is None:
            first = gr.update(choices=listed, value=default_models(known))
            return [first, *(gr.skip() for _ in controls[1:])]
        kept = [reference for reference in values[0] if reference in known]
        return [gr.update(choices=listed, value=kept), *values[1:]]

    page.load(arrive, None, controls, queue=False, api_visibility="private")


def default_models(known: Sequence[str]) -> list[str]:
    """Choose what a first visitor sees: the first and the last checkpoint of the newest run."""
    if not known:
        return []
    newest = [reference for reference in known if reference.split("/")[0] == known[0].split("/")[0]]
    return [newest[0], newest[-1]] if len(newest) > 1 else list(known[:2])


def _sampling(values: Sequence[Any]) -> Sampling:
    temperature, top_k, top_p, min_p, penalty, length, seed = values[2:9]
    return Sampling(
        temperature=float(temperature),
        top_k=int(top_k),
        top_p=float(top_p),
        min_p=float(min_p),
        repetition_penalty=float(penalty),
        max_new_tokens=int(length),
        seed=None if seed is None else int(seed),
    )


def _refuse(config: Config, references: Sequence[str], text: str) -> None:
    if not references:
        raise gr.Error("choose at least one model; `make demo` trains one", duration=8)
    if len(references) > MOST_MODELS:
        raise gr.Error(f"compare at most {MOST_MODELS} models at once", duration=8)
    if not text:
        raise gr.Error("write a prompt first", duration=8)
    if len(text) > config.panels.prompt_chars:
        raise gr.Error(
            f"the prompt has {len(text):,} characters, {config.panels.prompt_chars:,} are allowed",
            duration=8,
        )


def _restored(saved: str | None, count: int) -> list[Any] | None:
    """Read a comparison back from the address; anything else is left alone."""
    try:
        values = json.loads(saved or "")
    except ValueError:
        return None
    whole = isinstance(values, list) and len(values) == count and isinstance(values[0], list)
    return values if whole else None


def _names(store: RunStore, named: Sequence[str], references: Sequence[str]) -> list[str]:
    labels = {choice.reference: choice.label for choice in choices(store, named)}
    return [labels.get(reference, reference) for reference in references]


def _journey(store: RunStore, references: Sequence[str]) -> str:
    curves = journey(store, references)
    return line_chart("Validation, bits per byte", curves, empty="no run behind these models")


def _surprise(
    shelf: Shelf, store: RunStore, named: Sequence[str], references: Sequence[str], text: str
) -> str:
    if not references or not text:
        raise gr.Error("choose a model and write a prompt first", duration=8)
    blocks = []
    for reference, name in zip(references, _names(store, named, references), strict=True):
        try:
            with shelf.lease(reference) as engine:
                blocks.append(drawing.tokens(name, engine.score(text, alternatives=5)))
        except TriptychError as error:
            raise gr.Error(str(error), duration=10) from error
    return "".join(blocks)
