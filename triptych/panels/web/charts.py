"""The view model of a chart: curves over one axis, with gaps where nothing was measured.

The browser draws it with uPlot: values on hover, linear or logarithmic axis, smoothing, CSV and
PNG to save. With `source` and `refresh_s` the browser reads the data again by itself. Left out:
charts of Gradio's panels (`panels.charts`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from triptych.formatting import format_count


@dataclass(frozen=True)
class Curve:
    """One curve with its own x; a y of None is a gap in the line.

    `low` and `high` are the edges of a band, such as the spread over seeds.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A chart: its title, its axes and its curves.

    Units: `unit` is written after every value; `time` says that x is Unix seconds.
    """

    title: str
    curves: tuple[Curve, ...]
    x_label: str = "step"
    unit: str = ""
    time: bool = False
    log: bool = False
    source: str = ""
    refresh_s: float = 0.0

    @classmethod
    def of(
        cls, title: str, curves: Mapping[str, Sequence[tuple[float, float]]], **options: Any
    ) -> Chart:
        """Return a chart of points; a value that is not finite is a gap in its line."""
        drawn = []
        for name, points in curves.items():
            xs, ys = tuple(x for x, _ in points), tuple(_finite(y) for _, y in points)
            drawn.append(Curve(name, xs, ys))
        return cls(title, tuple(drawn), **options)

    @property
    def data(self) -> dict[str, Any]:
        """Return what the browser draws."""
        return {
            "title": self.title,
            "x_label": self.x_label,
            "unit": self.unit,
            "time": self.time,
            "log": self.log,
            "curves": [
                {
                    "name": curve.name,
                    "x": list(curve.x),
                    "y": [_finite(value) for value in curve.y],
                    "low": list(curve.low),
                    "high": list(curve.high),
                }
                for curve in self.curves
            ],
        }

    @property
    def summary(self) -> str:
        """Return the chart in words, for screen readers and where scripts are off."""
        parts = []
        for curve in self.curves:
            last = next((y for y in reversed(curve.y) if y is not None), None)
            if last is not None:
                parts.append(f"{curve.name} {format_count(last)}{self.unit}")
        if not parts:
            return f"{self.title}: nothing yet"
        return f"{self.title}. Last values: {', '.join(parts)}"


def chart_data(chart: Chart) -> JSONResponse:
    """Answer with a chart's data, for a chart that reads itself again."""
    return JSONResponse(chart.data, headers={"cache-control": "no-store"})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
