"""The place where runs are laid over each other, and where sweeps are averaged."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from triptych.lm.runs.store import RunStore
from triptych.lm.runs.sweep import RESULTS, runs_of, summarise, sweeps
from triptych.panels.studio import drawing
from triptych.panels.studio.watch import choices_of
from triptych.panels.visitor import who

EMPTY = (
    '<p class="quiet">Choose two or more runs to lay their curves over each other and to see '
    "which settings differ. Runs started together, from “Sweep (several runs)”, are a sweep: "
    "choose it and see the mean of its seeds with a 95 % interval.</p>"
)


def draw(store: RunStore, page: gr.Blocks) -> gr.Dropdown:
    """Draw the place; return the list of sweeps."""
    with gr.Row():
        which = gr.Dropdown([], label="Runs", multiselect=True, scale=2, min_width=240)
        sweep = gr.Dropdown([], label="or a sweep", value=None, scale=1, min_width=240)
    table = gr.HTML(EMPTY)

    def overlay(run_ids: list[str], request: gr.Request) -> str:
        mine = {run_id for _, run_id in choices_of(store, request)}
        chosen = [run_id for run_id in run_ids or [] if run_id in mine]
        return drawing.comparison(store, chosen) if chosen else EMPTY

    def average(name: str | None, request: gr.Request) -> str:
        return results(store, name, who(request).user) if name else gr.skip()

    def list_again(request: gr.Request) -> tuple[Any, Any]:
        named = sweeps(store, user=who(request).user)
        return gr.update(choices=choices_of(store, request)), gr.update(choices=named)

    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    page.load(list_again, None, [which, sweep], **quiet)
    which.focus(list_again, None, [which, sweep], **quiet)
    sweep.focus(list_again, None, [which, sweep], **quiet)
    which.change(overlay, which, table, show_progress="hidden", api_name="compare")
    sweep.change(average, sweep, table, show_progress="hidden", api_name="sweep")
    gr.Timer(5.0).tick(average, sweep, table, **quiet)
    return sweep


def results(store: RunStore, sweep: str, user: str) -> str:
    """Draw a sweep: its runs' curves, and a table of means."""
    runs = runs_of(store, sweep, user=user)
    rows = []
    for group in summarise(runs):
        settings = ", ".join(f"{k.partition('.')[2]} = {v}" for k, v in group.settings.items())
        done = sum(run.state == "succeeded" for run in group.runs)
        cells = [f"{done} of {len(group.runs)}", *(str(group.results[n] or "–") for n in RESULTS)]
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(settings or "all alike")}</th>{body}</tr>')
    heads = "".join(f'<th scope="col">{escape(n)}</th>' for n in ("settings", "done", *RESULTS))
    table = f'<table class="plain" id="sweep"><tr>{heads}</tr>{"".join(rows)}</table>'
    note = (
        '<p class="quiet">Means over seeds; ± is the 95 % confidence interval. '
        f'<a href="/api/sweeps/{quote(sweep)}.csv" download>Every run as CSV</a></p>'
    )
    shown = [run.run_id for run in runs[:8]]
    return f'<div class="table">{table}</div>{note}{drawing.comparison(store, shown)}'
