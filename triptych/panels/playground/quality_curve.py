"""How the compared models got better: bits per byte by step, with every checkpoint to choose.

Of a run it is read from the run's own events; of a model from the hub, from the record that was
published beside its card. Left out: drawing.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.errors import HubError
from triptych.hub.client import Hub
from triptych.hub.repository import Repo
from triptych.lm.runs.metrics import series
from triptych.panels.charts import Pick, Point
from triptych.panels.playground.models.loaded_models import LoadedModels
from triptych.panels.playground.models.model_list import ModelList, checkpoints, spread, step_of

MARKS = 12


@dataclass
class QualityCurves:
    """Curves by name, and on each the checkpoints that can be chosen."""

    curves: dict[str, list[Point]] = field(default_factory=dict)
    picks: dict[str, list[Pick]] = field(default_factory=dict)


def quality_curves(
    model_list: ModelList, loaded_models: LoadedModels, references: Sequence[str]
) -> QualityCurves:
    """Read how the models behind some references were made, as far as it is known here."""
    found = QualityCurves()
    for reference in references:
        if "/step-" in reference and model_list.is_offered(reference):
            _add_run(found, model_list, reference, references)
        elif (folder := _folder(loaded_models, reference)) is not None:
            _add_repository(found, model_list, reference, folder, references)
    return found


def height_at(points: Sequence[Point], step: float) -> float:
    """Return a curve's value at a step, straight between its points and flat beyond its ends."""
    place = bisect_left(points, step, key=lambda point: point[0])
    if place == 0:
        return points[0][1]
    if place == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    return y0 + (y1 - y0) * (step - x0) / (x1 - x0)


def _add_run(
    found: QualityCurves, model_list: ModelList, reference: str, chosen: Sequence[str]
) -> None:
    run = model_list.store.get(reference.partition("/")[0])
    name = run.name
    points = [
        (float(step), value)
        for step, value in series(run.path, ["val/bpb"], max_points=200)["val/bpb"]
    ]
    if name in found.curves or not points:
        return
    all_steps = checkpoints(run.path)
    kept = dict(spread(all_steps, MARKS))
    kept |= {step: folder for step, folder in all_steps if f"{run.run_id}/{folder}" in chosen}
    found.curves[name] = points
    found.picks[name] = [
        _pick(points, step, f"{run.run_id}/{folder}", f"{name} · step {step:,}", chosen)
        for step, folder in sorted(kept.items())
    ]


def _add_repository(
    found: QualityCurves, model_list: ModelList, reference: str, folder: Path, chosen: Sequence[str]
) -> None:
    name = reference.removeprefix("hf://").partition("@")[0]
    record = _record(folder)
    points = sorted(
        (float(event["step"]), float(event["val/bpb"]))
        for event in record.get("evaluations", ())
        if "val/bpb" in event
    )
    known = found.curves.get(name, [])
    if not points or len(points) <= len(known):
        return
    steps = {step_of(tag): f"{name}@{tag}" for tag in _tags(model_list, name) if step_of(tag) >= 0}
    if record.get("step") is not None:
        steps.setdefault(int(record["step"]), reference)
    found.curves[name] = points
    found.picks[name] = [
        _pick(points, step, target, f"{name} · step {step:,}", chosen)
        for step, target in sorted(steps.items())
    ]


def _pick(
    points: Sequence[Point], step: int, reference: str, label: str, chosen: Sequence[str]
) -> Pick:
    height = height_at(points, step)
    return Pick(
        step, height, reference, f"{label}: {height:.3f} bits per byte", reference in chosen
    )


def _folder(loaded_models: LoadedModels, reference: str) -> Path | None:
    """Return the folder of a repository's model that was opened here; nothing is fetched."""
    model = loaded_models.known(reference)
    return model.folder if model is not None else None


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "training_record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _tags(model_list: ModelList, name: str) -> list[str]:
    if model_list.hub_models == "none":
        return []
    try:
        hub = Hub(token="") if model_list.hub_models == "public" else Hub()
        return list(hub.tags(Repo.parse(name)))
    except HubError:
        return []  # the curve is here; only the neighbours cannot be offered
