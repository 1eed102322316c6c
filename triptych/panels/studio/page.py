"""The page itself: choose text, choose a size, start; then watch.

The address carries the run (`?run=ID`), so a bookmark or a second device shows the same run.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from triptych.config import Config
from triptych.errors import TriptychError
from triptych.lm.runs import control
from triptych.lm.runs.store import RunStore
from triptych.panels.studio import drawing
from triptych.panels.studio.start import PRESETS, Choice, corpora, start_run

# Changes the address without loading the page again.
SHOW_RUN = """(run) => {
  const url = new URL(window.location);
  if (run) { url.searchParams.set('run', run); } else { url.searchParams.delete('run'); }
  window.history.replaceState({}, '', url);
}"""


def build_page(store: RunStore, config: Config, navigation: str = "") -> gr.Blocks:
    """Draw the Studio for a store of runs."""
    with gr.Blocks(title="Triptych Studio", analytics_enabled=False) as page:
        if navigation:
            gr.HTML(navigation)
        gr.Markdown("# Studio\nTrain a model and watch it learn. A run goes on without this page.")
        with gr.Tabs() as tabs:
            with gr.Tab("New run", id="new"):
                fields, begin, trouble = _new_run()
            with gr.Tab("Watch", id="watch"):
                watch = _watch(store)
            with gr.Tab("Compare", id="compare"):
                _compare(store)
        chosen = watch["chosen"]

        def launch(*values: Any) -> tuple[Any, ...]:
            try:
                run = start_run(store, config, Choice(*values))
            except TriptychError as error:
                return gr.skip(), gr.skip(), gr.update(value=f"**{error.message}**\n\n{error.hint}")
            listed = gr.update(choices=_choices(store), value=run.run_id)
            return listed, gr.update(selected="watch"), ""

        started = begin.click(
            launch, fields, [chosen, tabs, trouble], api_name="start", show_progress="hidden"
        )
        started.then(None, chosen, None, js=SHOW_RUN)
        _keep_watching(page, store, config, watch, tabs)
    return page


def _new_run() -> tuple[list[Any], gr.Button, gr.Markdown]:
    """Draw the form of a new run."""
    with gr.Row():
        with gr.Column():
            gr.Markdown("### 1. Text to learn from")
            text = gr.Textbox(
                label="Paste text", lines=8, placeholder="a few pages are enough to see it learn"
            )
            files = gr.File(
                label="or upload files (txt, md, jsonl, csv, parquet)", file_count="multiple"
            )
            corpus = gr.Dropdown(corpora(), label="or a corpus you built", value=None)
        with gr.Column():
            gr.Markdown("### 2. How")
            preset = gr.Radio(
                list(PRESETS), value="quick", label="How long", info="; ".join(PRESETS_INFO)
            )
            size = gr.Dropdown(
                ["nano", "micro", "tiny", "small", "medium", "large"],
                value="nano",
                label="Size of the model",
                info="bigger learns more from much text, and takes longer",
            )
            name = gr.Textbox(label="Name", placeholder="my first model")
            advanced = gr.Textbox(
                label="Any other setting, one per line",
                placeholder="train.learning_rate=0.01",
                lines=3,
            )
            begin = gr.Button("Start training", variant="primary")
            trouble = gr.Markdown("")
    return [text, files, corpus, preset, size, name, advanced], begin, trouble


PRESETS_INFO = [f"{name}: {seconds / 60:.0f} min" for name, seconds in PRESETS.items()]


def _watch(store: RunStore) -> dict[str, Any]:
    """Draw the place where one run is watched."""
    with gr.Row():
        chosen = gr.Dropdown(_choices(store), value=None, label="Run", scale=4)
        pause = gr.Button("Stop (saves)", scale=1)
        resume = gr.Button("Resume", scale=1)
        cancel = gr.Button("End for good", scale=1, variant="stop")
    head = gr.HTML()
    with gr.Row():
        loss = gr.HTML()
        bpb = gr.HTML()
    samples = gr.HTML()
    with gr.Accordion("More curves", open=False):
        more = gr.HTML()
    with gr.Accordion("Log", open=False):
        log = gr.HTML()
    return {
        "chosen": chosen,
        "buttons": (pause, resume, cancel),
        "shown": [head, loss, bpb, samples, more, log],
    }


def _keep_watching(
    page: gr.Blocks, store: RunStore, config: Config, watch: dict[str, Any], tabs: gr.Tabs
) -> None:
    """Show the chosen run's true state, now and as long as the page is open."""
    chosen = watch["chosen"]

    def look_at(run_id: str | None) -> list[str]:
        return drawing.everything(store, config, run_id)

    def arrive(request: gr.Request) -> tuple[Any, ...]:
        wanted = dict(request.query_params).get("run") if request else None
        choices = _choices(store)
        known = wanted if wanted in [value for _, value in choices] else None
        tab = gr.update(selected="watch") if known else gr.skip()
        return gr.update(choices=choices, value=known), tab

    quiet: dict[str, Any] = {
        "show_progress": "hidden",
        "queue": False,
        "api_visibility": "private",
    }
    page.load(arrive, None, [chosen, tabs], **quiet)
    chosen.change(look_at, chosen, watch["shown"], **quiet)
    chosen.change(None, chosen, None, js=SHOW_RUN)
    chosen.focus(lambda: gr.update(choices=_choices(store)), None, chosen, **quiet)
    timer = gr.Timer(config.panels.refresh_s)
    timer.tick(look_at, chosen, watch["shown"], **quiet)
    acts = (control.pause, control.resume, control.cancel)
    for button, act in zip(watch["buttons"], acts, strict=True):

        def press(run_id: str | None, act: Any = act) -> list[str]:
            if not run_id:
                raise gr.Error("choose a run first", duration=4)
            try:
                act(store, run_id)
            except TriptychError as error:
                raise gr.Error(f"{error.message}. {error.hint}", duration=8) from error
            return look_at(run_id)

        button.click(press, chosen, watch["shown"], show_progress="hidden", api_name=act.__name__)


def _compare(store: RunStore) -> None:
    """Draw the place where runs are laid over each other."""
    which = gr.Dropdown(_choices(store), label="Runs", multiselect=True)
    table = gr.HTML()

    def draw(run_ids: list[str]) -> str:
        return drawing.comparison(store, run_ids or [])

    which.focus(lambda: gr.update(choices=_choices(store)), None, which, queue=False)
    which.change(draw, which, table, show_progress="hidden", api_name="compare")


def _choices(store: RunStore) -> list[tuple[str, str]]:
    return [(f"{run.name} · {run.state} · {run.run_id}", run.run_id) for run in store.list()]
