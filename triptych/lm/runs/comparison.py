"""Several runs side by side: the settings that differ, and the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from triptych.lm.runs.metrics import series
from triptych.lm.runs.store import Run

RESULTS = ("train/loss", "val/loss", "val/bpb", "train/tok_per_s")


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """Return runs as one table.

    Returns: `rows` with a header row, one row per differing setting and one per result.
    """
    settings = [_settings(run) for run in runs]
    names = sorted({name for values in settings for name in values})
    rows: list[list[Any]] = [["", *(run.name for run in runs)]]
    rows.append(["run", *(run.run_id for run in runs)])
    rows.append(["state", *(run.state for run in runs)])
    for name in names:
        cells = [values.get(name) for values in settings]
        if any(cell != cells[0] for cell in cells):
            rows.append([name, *cells])
    for name in RESULTS:
        rows.append([name, *(_last(run, name) for run in runs)])
    return {"rows": rows}


def _settings(run: Run) -> dict[str, Any]:
    """Return settings and derived recipe as one flat dictionary."""
    values: dict[str, Any] = {}
    path = run.path / "config.json"
    saved = json.loads(path.read_bytes()) if path.exists() else {"config": run.request["config"]}
    for section in ("model", "train"):
        for name, value in saved["config"].get(section, {}).items():
            values[f"{section}.{name}"] = value
    for name, value in saved.get("recipe", {}).items():
        values[f"recipe.{name}"] = value
    return values


def _last(run: Run, name: str) -> float | None:
    points = series(run.path, [name], max_points=4)[name]
    return round(points[-1][1], 4) if points else None
