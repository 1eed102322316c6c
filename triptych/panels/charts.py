"""Line charts as SVG text: small, sharp, readable without colour, with no script and no request.

A chart of 500 points is some 10 kB, so a page can redraw it every second for hours. Values are
shown by the browser's own tooltip on the points. Left out: choosing what to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from triptych.formatting import format_count
from triptych.panels.web.palette import CURVES_LIGHT, DASHES

Point = tuple[float, float]
WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 38
MARKS = 24


@dataclass(frozen=True)
class Pick:
    """A point of a curve that can be chosen; `value` is what choosing it means."""

    x: float
    y: float
    value: str
    label: str
    chosen: bool = False


def line_chart(
    title: str,
    curves: Mapping[str, Sequence[Point]],
    *,
    x_label: str = "step",
    empty: str = "nothing yet",
    y_from_zero: bool = False,
    picks: Mapping[str, Sequence[Pick]] | None = None,
) -> str:
    """Draw some curves over a common axis; `picks` are points of theirs that can be chosen."""
    drawn = {name: _finite(points) for name, points in curves.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return _frame(title, f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}">{escape(empty)}</text>')
    chosen = picks or {}
    xs = [x for points in drawn.values() for x, _ in points]
    xs += [pick.x for name in drawn for pick in chosen.get(name, ())]
    ys = [y for points in drawn.values() for _, y in points]
    x_ticks = [x for x in ticks(min(xs), max(*xs, min(xs) + 1), 6) if x == int(x)]
    y_ticks = ticks(0.0 if y_from_zero else min(ys), max(ys), 5)
    x_range = (min(xs), max(*xs, min(xs) + 1))
    y_range = (min(y_ticks[0], *ys), max(y_ticks[-1], *ys))
    place = _Placer(x_range, y_range)
    parts = _grid(x_ticks, y_ticks, place)
    for index, (name, points) in enumerate(drawn.items()):
        parts.append(_curve(points, index, place))
        parts += [_pick(pick, index, place) for pick in chosen.get(name, ())]
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{x_label}</text>')
    return _frame(title, "".join(parts), _legend(list(drawn)))


def ticks(low: float, high: float, about: int) -> list[float]:
    """Choose round numbers that cover a range: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        high = low + (abs(low) or 1.0) * 0.1
    raw = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.floor(low / step) * step
    count = math.ceil((high - first) / step - 1e-9)
    return [round(first + index * step, 12) for index in range(count + 1)]


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(float(x), float(y)) for x, y in points if math.isfinite(y)]


class _Placer:
    """Turn values into places on the picture."""

    def __init__(self, x_range: Point, y_range: Point) -> None:
        self._x, self._y = x_range, y_range

    def __call__(self, x: float, y: float) -> Point:
        across = (x - self._x[0]) / ((self._x[1] - self._x[0]) or 1.0)
        up = (y - self._y[0]) / ((self._y[1] - self._y[0]) or 1.0)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )


def _grid(x_ticks: list[float], y_ticks: list[float], place: _Placer) -> list[str]:
    parts = []
    for value in y_ticks:
        _, y = place(0.0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{format_count(value)}</text>'
        )
    for value in x_ticks:
        x, _ = place(value, 0.0)
        if LEFT - 1 <= x <= WIDTH - RIGHT - 30:
            parts.append(
                f'<text x="{x}" y="{HEIGHT - 20}" text-anchor="middle">{format_count(value)}</text>'
            )
    return parts


def _legend(names: list[str]) -> str:
    """Name the curves in words of the page, which wrap where the page is narrow."""
    parts = []
    for index, name in enumerate(names):
        color, dash = _color(index), DASHES[index % len(DASHES)]
        line = f'<line x2="20" y1="3" y2="3" stroke="{color}" stroke-width="2"'
        sign = f'<svg width="20" height="6" aria-hidden="true">{line} stroke-dasharray="{dash}"/>'
        parts.append(f"<span>{sign}</svg>{escape(name)}</span>")
    return f'<div class="legend">{"".join(parts)}</div>'


def _curve(points: list[Point], index: int, place: _Placer) -> str:
    color, dash = _color(index), DASHES[index % len(DASHES)]
    path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in points))
    line = f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"'
    every = max(1, len(points) // MARKS)
    marked = [*points[:-1:every], points[-1]]
    marks = "".join(_mark(point, color, place) for point in marked)
    return f'{line} stroke-dasharray="{dash}"/>{marks}'


def _color(index: int) -> str:
    """Return a curve's colour as the theme has it, light or dark."""
    return f"var(--curve-{index % len(CURVES_LIGHT)})"


def _mark(point: Point, color: str, place: _Placer) -> str:
    x, y = place(*point)
    tip = f"<title>{format_count(point[0])}: {point[1]:.4f}</title>"
    return f'<circle cx="{x}" cy="{y}" r="2.6" fill="{color}">{tip}</circle>'


def _pick(pick: Pick, index: int, place: _Placer) -> str:
    color = _color(index)
    x, y = place(pick.x, pick.y)
    label = escape(pick.label, quote=True)
    fill = color if pick.chosen else "var(--background-fill-primary)"
    return (
        f'<g class="pick" role="button" tabindex="0" aria-pressed="{str(pick.chosen).lower()}" '
        f'aria-label="{label}" data-pick="{escape(pick.value, quote=True)}">'
        f'<circle cx="{x}" cy="{y}" r="11" fill="transparent"/>'
        f'<circle cx="{x}" cy="{y}" r="5.5" fill="{fill}" stroke="{color}" stroke-width="2.2"/>'
        f"<title>{label}</title></g>"
    )


def _frame(title: str, inside: str, legend: str = "") -> str:
    role = "group" if "data-pick" in inside else "img"
    return (
        f'<figure style="margin:0"><figcaption>{escape(title)}{legend}</figcaption>'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}" '
        f'aria-label="{escape(title, quote=True)}">{inside}</svg></figure>'
    )
