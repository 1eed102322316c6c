"""What the held-out text says about a run, and when it says too little to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.lm.runs.history import LiveHistory
from triptych.panels.charts import Point

# Below this many held-out tokens one document more or less changes the second digit.
LEAST_TOKENS = 1000
# How far validation loss has to be above its best, and in how many evaluations in a row.
PART_FRAC = 0.02
PART_EVALS = 2


def too_little(evaluation: Mapping[str, Any] | None) -> str:
    """Return that there is too little text to measure, with its size; empty where there is not."""
    tokens = (evaluation or {}).get("val/tokens")
    if tokens is None or tokens >= LEAST_TOKENS:
        return ""
    return f"too little text to measure: {tokens:,.0f} tokens are held out"


def memorising_since(history: LiveHistory) -> int | None:
    """Return the step from which held-out loss rises while training loss falls; None otherwise."""
    held_out, training = history.curves["val/loss"], history.curves["train/loss"]
    if len(held_out) <= PART_EVALS or too_little(history.last_eval):
        return None
    best_step, best = min(held_out, key=lambda point: point[1])
    since = [loss for step, loss in held_out if step > best_step]
    risen = [loss > best * (1 + PART_FRAC) for loss in since[-PART_EVALS:]]
    if len(risen) < PART_EVALS or not all(risen):
        return None
    before = _around(training, best_step)
    now = _around(training, training[-1][0]) if training else None
    return best_step if before is not None and now is not None and now < before else None


def _around(curve: Sequence[Point], step: int) -> float | None:
    """Return the mean of a curve's last twenty points up to a step."""
    values = [loss for at, loss in curve if at <= step][-20:]
    return sum(values) / len(values) if values else None
