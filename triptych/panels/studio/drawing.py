"""Draw a run as HTML: its state, figures, curves, samples and log. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from triptych.config import Config
from triptych.errors import TriptychError
from triptych.lm.evaluate.journey import read_events
from triptych.lm.runs.api import tail
from triptych.lm.runs.comparison import compare
from triptych.lm.runs.metrics import downsample, series
from triptych.lm.runs.states import LIVE
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import is_stalled
from triptych.panels.charts import Point, line_chart
from triptych.words import clock, short, size

SAMPLES_SHOWN = 6
MEANINGS = {
    "queued": "waits for a free device",
    "starting": "measures the machine and loads the text",
    "running": "learns; this page may be closed",
    "stopping": "finishes its step and saves",
    "paused": "rests; Resume goes on exactly where it was",
    "succeeded": "has learned all it was asked to",
    "failed": "stopped by an error; start a new run from its last checkpoint",
    "cancelled": "ended for good; its checkpoints stay",
    "interrupted": "its process died; Resume goes on from the last checkpoint",
}


EMPTY = (
    '<p class="quiet">Here you see a run learn: its loss falls, and every now and then it writes '
    "a few words, which get better. Choose a run above, or start one under “New run”.</p>"
)


def everything(store: RunStore, config: Config, run_id: str | None) -> list[str]:
    """Draw the six places of the live page: head, loss, bpb, samples, more curves, log."""
    if not run_id:
        return [EMPTY, "", "", "", "", ""]
    try:
        run = store.get(run_id)
    except TriptychError as error:
        return [f"<p>{escape(error.message)}</p>", "", "", "", "", ""]
    events = list(read_events(run.path / "events.jsonl"))
    return [
        head(run, events, config.runs.stalled_s),
        line_chart("Loss (nats per token)", curves(events, "train/loss", "val/loss")),
        line_chart("Validation, bits per byte", curves(events, "val/bpb")),
        samples(events),
        more(events),
        f'<pre class="log" tabindex="0">{escape(tail(run.path / "worker.log", 8192))}</pre>',
    ]


def head(run: Run, events: Sequence[dict[str, Any]], stalled_s: float) -> str:
    """Draw what a run is doing, how far it is, and its latest figures."""
    state = f'<span class="state {run.state}">{run.state}</span> {MEANINGS[run.state]}'
    if is_stalled(run, stalled_s):
        state += " <b>Nothing was written for a while; stop it, or look at the log.</b>"
    if run.message and run.state not in LIVE:
        state += f'<p class="quiet">{escape(run.message)}</p>'
    share = 100.0 * run.step / run.steps if run.steps else 0.0
    bar = f'<div class="bar" role="progressbar" aria-valuenow="{share:.0f}" aria-label="progress">'
    bar += f'<i style="width:{share:.1f}%"></i></div>'
    return f'<div id="run-head">{state}{bar}{_figures(run, events)}</div>'


def _figures(run: Run, events: Sequence[dict[str, Any]]) -> str:
    steps = [event for event in events if event["type"] == "step"]
    evals = [event for event in events if event["type"] == "eval"]
    figures: list[tuple[str, str]] = [("step", f"{run.step:,} of {run.steps or '?'}")]
    if steps:
        last = steps[-1]
        figures += [
            ("tokens seen", short(last["tokens_seen"])),
            ("loss", f"{last['train/loss']:.3f}"),
            ("tokens/s", short(last["train/tok_per_s"])),
            ("steps/s", _steps_per_s(steps)),
            ("of the machine", f"{last['train/mfu']:.0%}"),
            ("memory", size(last["memory_bytes"])),
        ]
    if evals:
        figures.insert(2, ("held-out bits per byte", f"{evals[-1]['val/bpb']:.3f}"))
        figures.insert(
            3, ("held-out perplexity", short(math.exp(min(700.0, evals[-1]["val/loss"]))))
        )
    if steps and run.state in LIVE:
        figures.append(("left", clock(steps[-1]["eta_s"])))
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in figures)
    return f'<div class="figures">{cells}</div>'


def _steps_per_s(steps: Sequence[dict[str, Any]]) -> str:
    latest = steps[-20:]
    passed_s = latest[-1]["time_s"] - latest[0]["time_s"]
    return f"{(len(latest) - 1) / passed_s:.2g}" if passed_s > 0 else "–"


def curves(events: Sequence[dict[str, Any]], *names: str) -> dict[str, list[Point]]:
    """Pick some curves out of the events, small enough to draw."""
    drawn = {}
    for name in names:
        points = [(int(e["step"]), float(e[name])) for e in events if name in e]
        drawn[name] = [(float(x), y) for x, y in downsample(points, 240)]
    return drawn


def samples(events: Sequence[dict[str, Any]]) -> str:
    """Draw what the model writes as it learns: the same opening, newest first."""
    written = [event for event in events if event["type"] == "sample"]
    if not written:
        return '<p class="quiet">Samples appear here as the model learns to write.</p>'
    opening = written[0]["prompt"]
    same = [event for event in written if event["prompt"] == opening][-SAMPLES_SHOWN:]
    blocks = [
        f'<div class="sample"><span class="quiet">step {event["step"]:,}</span>\n'
        f"<b>{escape(event['prompt'])}</b>{escape(event['text'])}</div>"
        for event in reversed(same)
    ]
    return "<h3>What it writes</h3>" + "".join(blocks)


def more(events: Sequence[dict[str, Any]]) -> str:
    """Draw the curves that matter when something is odd."""
    charts = [
        line_chart("Learning rate", curves(events, "train/lr"), y_from_zero=True),
        line_chart("Gradient norm", curves(events, "train/grad_norm"), y_from_zero=True),
        line_chart("Tokens per second", curves(events, "train/tok_per_s"), y_from_zero=True),
        line_chart("Share of the machine's rate", curves(events, "train/mfu"), y_from_zero=True),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def overlay(runs: Sequence[Run], name: str) -> str:
    """Draw one curve of several runs over each other."""
    drawn = {
        f"{run.name} {run.run_id[-4:]}": [
            (float(x), y) for x, y in series(run.path, [name], max_points=240)[name]
        ]
        for run in runs
    }
    return line_chart(name, drawn)


def comparison(store: RunStore, run_ids: Sequence[str]) -> str:
    """Draw runs over each other, and a table of what differs."""
    runs = [store.get(run_id) for run_id in run_ids]
    charts = [overlay(runs, name) for name in ("train/loss", "val/bpb")]
    rows = compare(runs)["rows"]
    head_row = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in rows[0])
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(str(row[0]))}</th>'
        + "".join(f"<td>{escape('' if cell is None else str(cell))}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows[1:]
    )
    table = f'<div class="table"><table class="plain"><tr>{head_row}</tr>{body}</table></div>'
    return f'<div class="charts">{"".join(charts)}</div>{table}'
