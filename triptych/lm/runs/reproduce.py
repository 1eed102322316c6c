"""What reproduces a run on another machine: a TOML file and a command.

Every value that the recipe derived or measured is written out, so a machine of the same kind with
the same corpus computes the same run bit for bit. Left out: the corpus; its fingerprint names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from triptych.config.model import ModelSection
from triptych.config.train import TrainConfig
from triptych.lm.runs.store import Run

# Decided by the machine or by `steps`; with the resolved values given, nothing is left to decide.
_DECIDED = frozenset({"budget_s", "data", "tokens_per_parameter", "max_epochs"})


def config_toml(run: Run) -> str:
    """Return the configuration of a run as TOML, resolved where it has begun."""
    saved, resolved = _saved(run), bool(run.path.joinpath("config.json").exists())
    train = {**saved["config"]["train"], **_derived(saved.get("recipe") or {})}
    lines = [f"# run {run.run_id}"]
    if fingerprint := saved.get("data_fingerprint"):
        lines.append(f"# corpus {fingerprint}")
    if not resolved:
        lines.append("# not started yet: settings that are missing here are derived at the start")
    lines += ["", "[model]", *_lines(saved["config"]["model"], ModelSection())]
    kept = {name: value for name, value in train.items() if name not in _DECIDED}
    lines += ["", "[train]", *_lines(kept, TrainConfig())]
    return "\n".join(lines) + "\n"


def command(run: Run, file: str = "") -> str:
    """Return the command that reproduces a run from its TOML file and its corpus."""
    data = _saved(run)["config"]["train"].get("data") or "CORPUS"
    return f"triptych train {file or run.run_id + '.toml'} train.data={data}"


def _saved(run: Run) -> Mapping[str, Any]:
    path = run.path / "config.json"
    if not path.exists():
        return {"config": run.request["config"]}
    saved: Mapping[str, Any] = json.loads(path.read_bytes())
    return saved


def _derived(recipe: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(TrainConfig)}
    values = {name: value for name, value in recipe.items() if name in names}
    if "compile" in values:
        values["compile"] = "on" if values["compile"] else "off"
    return values


def _lines(values: Mapping[str, Any], defaults: Any) -> list[str]:
    lines = []
    for name, value in values.items():
        default = getattr(defaults, name)
        plain = list(default) if isinstance(default, tuple) else default
        if value is not None and value != plain:
            # JSON's strings, numbers, booleans and lists are TOML's.
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return lines
