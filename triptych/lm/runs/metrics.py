"""The curves of a run with at most 500 points, small enough to draw; first and last are kept.

Left out: drawing, and reading the log (`wire/run_events`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.wire.run_events import read_events

MAX_POINTS = 500
Point = tuple[int, float]


def series(
    path: Path, names: Sequence[str], *, max_points: int = MAX_POINTS
) -> dict[str, list[Point]]:
    """Return curves, such as `train/loss` and `val/bpb`, by step.

    Returns: for each name at most `max_points` pairs of step and value.
    """
    events = list(read_events(path / "events.jsonl"))
    return {name: downsample(list(_points(events, name)), max_points) for name in names}


def downsample(points: Sequence[Point], max_points: int = MAX_POINTS) -> list[Point]:
    """Return a curve with fewer points: the lowest and highest of each interval, first and last.

    A spike is never lost.
    """
    if len(points) <= max_points:
        return list(points)
    if max_points < 4:
        return [points[0], points[-1]][:max_points]
    edges = np.linspace(1, len(points) - 1, (max_points - 2) // 2 + 1).astype(int)
    kept = {0, len(points) - 1}
    values = np.array([value for _, value in points])
    for start, end in itertools.pairwise(edges):
        if end > start:
            kept.add(int(start + values[start:end].argmin()))
            kept.add(int(start + values[start:end].argmax()))
    return [points[index] for index in sorted(kept)]


def _points(events: Sequence[dict[str, Any]], name: str) -> Iterator[Point]:
    for event in events:
        if name in event:
            yield int(event["step"]), float(event[name])
