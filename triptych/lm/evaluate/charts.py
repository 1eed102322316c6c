"""Charts of training runs, as PNG files.

Colours keep their order everywhere and differ in lightness too, so that they survive a printer
and colour blindness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.durable import write_atomic
from triptych.lm.evaluate.run_history import RunHistory

COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7f3f98", "#b8860b", "#5f6a72")


def draw_run(history: RunHistory, yardsticks: Mapping[str, float], path: Path) -> None:
    """Draw loss and bits per byte of one run over the tokens it has seen."""
    figure, (left, right) = _figure(2)
    tokens = [event["tokens_seen"] / 1e6 for event in history.steps]
    losses = [event["train/loss"] for event in history.steps]
    left.plot(tokens, losses, color=COLOURS[5], alpha=0.3, linewidth=0.8)
    left.plot(tokens, _smooth(losses), color=COLOURS[0], label="train")
    evals = history.evals
    at = [event["tokens_seen"] / 1e6 for event in evals]
    left.plot(at, [e["val/loss"] for e in evals], "o-", color=COLOURS[1], ms=4, label="validation")
    left.set_ylabel("nats per token")
    left.legend(frameon=False)
    right.plot(at, [e["val/bpb"] for e in evals], "o-", color=COLOURS[1], ms=4)
    for name, bpb in yardsticks.items():
        right.axhline(bpb, color=COLOURS[5], linewidth=0.8, linestyle=":")
        right.annotate(
            f"{name} {bpb:.2f}",
            (1.0, bpb),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
            color=COLOURS[5],
        )
    right.set_ylabel("bits per byte, validation")
    right.set_ylim(bottom=0)
    _save(figure, (left, right), history.name, path)


def draw_comparison(
    histories: Sequence[tuple[str, RunHistory | None]], scores: Mapping[str, float], path: Path
) -> None:
    """Draw the training curves of several checkpoints, and their scores on the same text."""
    figure, (left, right) = _figure(2)
    for (name, history), colour in zip(histories, _colours(), strict=False):
        if history:
            at = [event["tokens_seen"] / 1e6 for event in history.evals]
            bpbs = [event["val/bpb"] for event in history.evals]
            left.plot(at, bpbs, "o-", color=colour, ms=4, label=name)
    left.set_ylabel("bits per byte, own validation")
    if left.lines:
        left.legend(frameon=False, fontsize=8)
    names = list(scores)
    colours = [colour for _, colour in zip(names, _colours(), strict=False)]
    bars = right.barh(names, list(scores.values()), color=colours)
    right.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    right.invert_yaxis()
    right.set_xlabel("bits per byte, this text")
    _save(figure, (left,), "comparison", path)


def _colours() -> Sequence[str]:
    return COLOURS * 4


def _figure(columns: int) -> tuple[Any, Any]:
    # The figure class alone: pyplot would keep state and look for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * columns, 3.8), dpi=120, layout="constrained")
    return figure, figure.subplots(1, columns)


def _save(figure: Any, axes: Sequence[Any], title: str, path: Path) -> None:
    from io import BytesIO

    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes:
        axis.set_xlabel("million tokens seen")
        axis.grid(alpha=0.25)
    figure.suptitle(title, fontsize=10)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    write_atomic(path, buffer.getvalue())


def _smooth(values: Sequence[float]) -> np.ndarray:
    """Average over a fiftieth of the curve, without looking ahead."""
    width = max(1, len(values) // 50)
    sums = np.cumsum(np.insert(np.asarray(values, dtype=np.float64), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - width)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))
