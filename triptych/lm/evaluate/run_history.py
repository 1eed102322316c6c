"""The history of a run, read from its folder: record, config, every step, every evaluation.

Reports, comparisons and charts take their figures from here, so that none is typed by hand.
Left out: writing these files (`lm/train`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.errors import EvaluationError
from triptych.wire.run_events import read_events


@dataclass(frozen=True)
class RunHistory:
    """The record, config and clean events of one run."""

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]
    steps: list[dict[str, Any]]
    evals: list[dict[str, Any]]
    samples: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """Return the run's identifier."""
        return str(self.record.get("run_id", self.folder.name))


def read_run_history(run_dir: Path) -> RunHistory:
    """Read a run folder.

    Raises: EvaluationError where the folder is not a run.
    """
    run_dir = Path(run_dir)
    try:
        record, config = (
            json.loads((run_dir / name).read_text(encoding="utf-8"))
            for name in ("run.json", "config.json")
        )
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{run_dir} is not a run folder", hint="`triptych runs list` names the runs"
        ) from error
    by_type: dict[str, list[dict[str, Any]]] = {"step": [], "eval": [], "sample": []}
    for event in read_events(run_dir / "events.jsonl"):
        if event["type"] in by_type:
            by_type[event["type"]].append(event)
    return RunHistory(run_dir, record, config, by_type["step"], by_type["eval"], by_type["sample"])


def run_history_of(checkpoint: Path) -> RunHistory | None:
    """Read the history of the run that a checkpoint is in; None for a checkpoint on its own."""
    run_dir = checkpoint.resolve().parent.parent
    if checkpoint.resolve().parent.name == "checkpoints" and (run_dir / "run.json").is_file():
        return read_run_history(run_dir)
    return None
