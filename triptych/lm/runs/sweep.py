"""A sweep: several runs queued at once, from a small grid of settings and seeds.

The runs share the sweep's name, so they can be found, shown together and averaged. Left out: how
they are trained; to the queue they are runs like any other.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.config import Config
from triptych.errors import UsageError
from triptych.lm.runs.control import apply_settings, read_config
from triptych.lm.runs.metrics import series
from triptych.lm.runs.store import Request, Run, RunStore, shaping, slug

RESULTS = ("train/loss", "val/loss", "val/bpb", "train/tok_per_s")
MOST_RUNS = 64
# 97.5 % quantile of Student's t for 1 to 10 degrees of freedom; beyond, the last is a little wide.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds; `half` on both sides of it is the 95 % confidence interval."""

    mean: float
    half: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval | None:
        """Return the mean of some values; None where there are none."""
        if not values:
            return None
        half = None
        if len(values) > 1:
            t = _T[min(len(values) - 1, len(_T)) - 1]
            half = t * statistics.stdev(values) / math.sqrt(len(values))
        return cls(mean=statistics.fmean(values), half=half, count=len(values))

    def __str__(self) -> str:
        spread = "" if self.half is None else f" ± {self.half:.4f}"
        return f"{self.mean:.4f}{spread}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The runs of one point of the grid, and their averaged results."""

    settings: dict[str, Any]
    runs: list[Run]
    results: dict[str, Interval | None]


def grid(vary: Sequence[str]) -> list[list[str]]:
    """Return the points of a grid: `train.seed=1,2` and `train.steps=10,20` are four runs.

    Raises: UsageError for text that is not NAME=VALUE,VALUE, or a grid of too many runs.
    """
    axes: list[list[str]] = []
    for text in vary:
        name, equals, values = text.partition("=")
        chosen = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not name.strip() or not chosen:
            raise UsageError(
                f"cannot read {text!r}", hint="write train.learning_rate=0.001,0.003,0.01"
            )
        axes.append([f"{name.strip()}={value}" for value in chosen])
    points = [list(point) for point in itertools.product(*axes)]
    if len(points) > MOST_RUNS:
        raise UsageError(
            f"{len(points)} runs are too many for one sweep",
            hint=f"at most {MOST_RUNS}; vary fewer settings",
        )
    return points


def start_sweep(
    store: RunStore,
    config: Config,
    vary: Sequence[str],
    *,
    name: str = "",
    user: str = "local",
    check: Callable[[Config], None] = lambda config: None,
) -> list[Run]:
    """Queue a run for every point of a grid; `check` may refuse a point.

    Raises: UsageError for a wrong grid, ConfigError for a wrong setting, and what `check` raises;
        then nothing is queued, except where a quota is used up half way.
    """
    base = shaping(config)
    points = grid(vary)
    # All are checked before the first is queued.
    configs = [apply_settings(base, point) for point in points]
    for settings in configs:
        check(read_config(settings))
    sweep = f"{slug(name) or 'sweep'}-{time.strftime('%Y%m%d-%H%M%S')}"
    made = []
    for point, settings in zip(points, configs, strict=True):
        check(read_config(settings))
        label = ", ".join(text.partition(".")[2] for text in point)
        request = Request(config=settings, user=user, name=label or name or "run", sweep=sweep)
        made.append(store.create(request))
    return made


def runs_of(store: RunStore, sweep: str, *, user: str | None = None) -> list[Run]:
    """Return the runs of a sweep, oldest first.

    Raises: UsageError where there is no such sweep.
    """
    found = [run for run in store.list(user=user) if run.request.get("sweep") == sweep]
    if not found:
        known = sweeps(store, user=user)
        raise UsageError(f"no sweep {sweep}", hint=f"there are: {', '.join(known) or 'none yet'}")
    return found[::-1]


def sweeps(store: RunStore, *, user: str | None = None) -> list[str]:
    """Return the names of all sweeps, newest first."""
    named = (run.request.get("sweep") for run in store.list(user=user))
    return list(dict.fromkeys(name for name in named if name))


def summarise(runs: Sequence[Run]) -> list[Group]:
    """Return the averages of runs that differ only in their seed, lowest validation loss first."""
    varied = _varied(runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([_value(run, n) for n in varied]), []).append(run)
    found = [_group(members, varied) for members in groups.values()]
    return sorted(found, key=_by_loss)


def to_csv(runs: Sequence[Run]) -> str:
    """Return CSV with a row for each run: settings that vary, seed, state and results."""
    varied = _varied(runs)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", *varied, "train.seed", "state", *RESULTS])
    for run in runs:
        settings = [_value(run, name) for name in varied]
        results = [_last(run, name) for name in RESULTS]
        seed = _value(run, "train.seed")
        writer.writerow([run.run_id, *settings, seed, run.state, *results])
    return file.getvalue()


def _group(runs: list[Run], varied: Sequence[str]) -> Group:
    results = {}
    for name in RESULTS:
        values = [_last(run, name) for run in runs if run.state == "succeeded"]
        results[name] = Interval.of([value for value in values if value is not None])
    settings = {name: _value(runs[0], name) for name in varied}
    return Group(settings=settings, runs=runs, results=results)


def _by_loss(group: Group) -> float:
    loss = group.results["val/loss"]
    return loss.mean if loss else math.inf


def _varied(runs: Sequence[Run]) -> list[str]:
    names = [
        f"{section}.{field}"
        for section in ("model", "train")
        for field in runs[0].request["config"][section]
    ]
    first = runs[0]
    return [
        name
        for name in names
        if name != "train.seed" and any(_value(r, name) != _value(first, name) for r in runs)
    ]


def _value(run: Run, name: str) -> Any:
    section, _, field = name.partition(".")
    return run.request["config"][section].get(field)


def _last(run: Run, name: str) -> float | None:
    points = series(run.path, [name], max_points=4)[name]
    return points[-1][1] if points else None
