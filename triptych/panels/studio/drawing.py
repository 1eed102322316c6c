"""Draw a run as HTML: its state, figures, curves, samples and log. All text is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from triptych.formatting import format_bytes, format_count, format_duration
from triptych.lm.runs.comparison import compare
from triptych.lm.runs.history import LiveHistory, tail
from triptych.lm.runs.metrics import downsample, series
from triptych.lm.runs.states import LIVE
from triptych.lm.runs.store import Run, RunStore
from triptych.lm.runs.supervisor import is_stalled
from triptych.panels.charts import Point, line_chart
from triptych.panels.explain import explained, term
from triptych.panels.studio.measured import memorising_since, too_little
from triptych.wire.run_events import whole_split

SAMPLES_SHOWN = 6
POINTS = 240
LOG_BYTES = 8192
MEANINGS = {
    "queued": "Waiting for a free device",
    "starting": "Measuring the machine and loading the text",
    "running": "Training. You can close this page",
    "stopping": "Finishing the step and saving",
    "paused": "Paused. Resume continues exactly where it stopped",
    "succeeded": "Finished",
    "failed": "Stopped by an error. Start a new run from its last checkpoint",
    "cancelled": "Cancelled. Its checkpoints are kept",
    "interrupted": "Its process ended unexpectedly. Resume continues from the last checkpoint",
}


EMPTY = (
    '<p class="quiet">Here you see a run train: its loss falls, and now and then it writes a '
    "short sample, which gets better. Choose a run above, or start one under “New run”.</p>"
)


def head(run: Run, history: LiveHistory, stalled_s: float) -> str:
    """Draw what a run is doing, how far it is, and its latest figures."""
    state = f'<span class="state {run.state}">{run.state}</span> {MEANINGS[run.state]}'
    if is_stalled(run, stalled_s):
        state += " <b>Nothing was written for a while; stop it, or look at the log.</b>"
    if run.message and run.state not in LIVE:
        state += f'<p class="quiet">{escape(run.message)}</p>'
    since = memorising_since(history)
    if since is not None:
        state += (
            f'<p class="status warn">{term("memorising", "Memorising now")}: since step {since:,} '
            "the loss on held-out text rises while training loss falls. More text, or fewer steps, "
            "helps; the checkpoint of the best evaluation is kept.</p>"
        )
    share = 100.0 * run.step / run.steps if run.steps else 0.0
    bar = f'<div class="bar" role="progressbar" aria-valuenow="{share:.0f}" aria-label="progress">'
    bar += f'<i style="width:{share:.1f}%"></i></div>'
    return f'<div id="run-head">{state}{bar}{_figures(run, history)}</div>'


def _figures(run: Run, history: LiveHistory) -> str:
    figures: list[tuple[str, str]] = [
        ("step", f"{run.step:,} of {run.steps:,}" if run.steps else "preparing")
    ]
    steps, last_eval = history.steps, history.last_eval
    if steps:
        last = steps[-1]
        figures += [
            ("tokens seen", format_count(last["tokens_seen"])),
            ("loss", f"{last['train/loss']:.3f}"),
            ("tokens/s", format_count(last["train/tok_per_s"])),
            ("steps/s", _steps_per_s(steps)),
            ("of peak speed", f"{last['train/mfu']:.0%}"),
            ("memory", format_bytes(last["memory_bytes"])),
        ]
    if last_eval and (words := too_little(last_eval)):
        figures.insert(2, ("held-out text", words.partition(":")[0]))
    elif last_eval:
        figures.insert(2, ("held-out bits per byte", f"{last_eval['val/bpb']:.3f}"))
        perplexity = math.exp(min(700.0, last_eval["val/loss"]))
        figures.insert(3, ("held-out perplexity", format_count(perplexity)))
    if steps and run.state in LIVE:
        figures.append(("left", format_duration(steps[-1]["eta_s"])))
    cells = "".join(
        f"<div><b>{value}</b><span>{explained(name)}</span></div>" for name, value in figures
    )
    return f'<div class="figures">{cells}</div>'


def _steps_per_s(steps: Sequence[dict[str, Any]]) -> str:
    passed_s = steps[-1]["time_s"] - steps[0]["time_s"]
    return f"{(len(steps) - 1) / passed_s:.2g}" if passed_s > 0 else "–"


def loss(history: LiveHistory) -> str:
    """Draw the loss of training, and of the held-out text where there is enough of it."""
    names = ["train/loss"] if too_little(history.last_eval) else ["train/loss", "val/loss"]
    return line_chart("Loss (nats per token)", _curves(history, *names))


def bpb(history: LiveHistory) -> str:
    """Draw the measure that does not depend on the tokenizer."""
    title = "Validation, bits per byte"
    if words := too_little(history.last_eval):
        return line_chart(title, {}, empty=words)
    whole = whole_split(history.last_eval) if history.last_eval else None
    if whole:
        title += f"; over all of the held-out text {whole['val/bpb']:.3f}"
    return line_chart(title, _curves(history, "val/bpb"))


def _curves(history: LiveHistory, *names: str) -> dict[str, list[Point]]:
    """Pick some curves, small enough to draw."""
    found = {name: downsample(history.curves[name], POINTS) for name in names}
    return {name: [(float(x), y) for x, y in points] for name, points in found.items()}


def samples(history: LiveHistory) -> str:
    """Draw what the model writes as it learns: the same opening, newest first."""
    written = history.samples
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


def more(history: LiveHistory) -> str:
    """Draw the curves that matter when something is odd."""
    titles = {
        "train/lr": "Learning rate",
        "train/grad_norm": "Gradient norm",
        "train/tok_per_s": "Tokens per second",
        "train/mfu": "Share of peak speed",
    }
    charts = [
        line_chart(title, _curves(history, name), y_from_zero=True)
        for name, title in titles.items()
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def log(run: Run) -> str:
    """Draw the end of what the worker printed."""
    text = tail(run.path / "worker.log", LOG_BYTES)
    return f'<pre class="log" tabindex="0">{escape(text)}</pre>'


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
    """Draw runs over each other by bits per byte, and a table of what differs.

    Losses are drawn as well where they count the same tokens.
    """
    runs = [store.get(run_id) for run_id in run_ids]
    vocabularies = {size for run in runs if (size := _vocabulary(run)) is not None}
    charts, warning = [overlay(runs, "val/bpb")], ""
    if len(vocabularies) > 1:
        sizes = " and ".join(f"{size:,}" for size in sorted(vocabularies))
        warning = (
            f'<p class="status warn" role="status">These runs have vocabularies of {sizes} tokens: '
            "their losses are per token and cannot be compared. "
            f"{term('bits per byte', 'Bits per byte')} can.</p>"
        )
    else:
        charts.append(overlay(runs, "train/loss"))
    head, *rows = compare(runs)["rows"]
    head_row = "".join(f'<th scope="col">{escape(_cell(cell))}</th>' for cell in head)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(str(row[0]))}</th>'
        + "".join(f"<td>{escape(_cell(cell))}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    table = f'<div class="table"><table class="plain"><tr>{head_row}</tr>{body}</table></div>'
    return f'{warning}<div class="charts">{"".join(charts)}</div>{table}'


def _vocabulary(run: Run) -> int | None:
    """Return how many tokens a run's model knows; None before it has begun."""
    path = run.path / "config.json"
    saved = json.loads(path.read_bytes()) if path.exists() else {}
    size: int | None = (saved.get("model") or {}).get("vocab_size")
    return size


def _cell(value: Any) -> str:
    """Write a setting for reading: few digits, and a folder by its name."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return Path(text).name if text.startswith("/") else text
