"""The history of a run, read back from its folder: what it was, every step, every evaluation.

Reports, comparisons and pages draw from here, so that nothing they show is typed by hand.
Left out: writing these files (`lm/train`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.durable import read_jsonl
from triptych.errors import EvaluationError

NUMBERED = frozenset({"step", "eval", "sample", "checkpoint"})


@dataclass(frozen=True)
class RunHistory:
    """All that a run folder tells."""

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]
    steps: list[dict[str, Any]]
    evals: list[dict[str, Any]]
    samples: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The run's identifier."""
        return str(self.record.get("run_id", self.folder.name))


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the clean history of a run: each numbered event once, in order.

    A run that was killed repeats the steps since its last checkpoint, with the same numbers;
    the first writing of each number counts, since the repetition is bit-identical.
    """
    seen = 0
    for event in read_jsonl(path):
        if event["type"] in NUMBERED:
            if event["seq"] <= seen:
                continue
            seen = event["seq"]
        yield event


def read_run_history(run_dir: Path) -> RunHistory:
    """Read a run folder.

    Raises: EvaluationError where it is none.
    """
    run_dir = Path(run_dir)
    try:
        record, config = (
            json.loads((run_dir / name).read_text(encoding="utf-8"))
            for name in ("run.json", "config.json")
        )
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{run_dir} is no run folder", hint="`triptych runs list` names the runs"
        ) from error
    by_type: dict[str, list[dict[str, Any]]] = {"step": [], "eval": [], "sample": []}
    for event in read_events(run_dir / "events.jsonl"):
        if event["type"] in by_type:
            by_type[event["type"]].append(event)
    return RunHistory(run_dir, record, config, by_type["step"], by_type["eval"], by_type["sample"])


def run_history_of(checkpoint: Path) -> RunHistory | None:
    """Read the history of the run a checkpoint lies in; None for a checkpoint on its own."""
    run_dir = checkpoint.resolve().parent.parent
    if checkpoint.resolve().parent.name == "checkpoints" and (run_dir / "run.json").is_file():
        return read_run_history(run_dir)
    return None
