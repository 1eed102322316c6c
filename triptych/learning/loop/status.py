"""Where the loop of a tier stands, as one value: for the Learn page, the command line, a script.

Read from disk only, so that it is there while the gateway is away. Left out: changing anything.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from triptych.durable import read_jsonl
from triptych.learning.loop import erasure
from triptych.learning.loop.controller import Place
from triptych.learning.loop.rollout import LOG_FILE, STATE_FILE, State, read_state
from triptych.learning.loop.training import Session, read_session

VERDICT_FILE = "verdict.json"
StepState = Literal["done", "failed", "waiting", "open"]
_DECISIONS_SHOWN = 50


@dataclass(frozen=True)
class Step:
    """One step of the line: its state, one sentence, what is missing, and what may be done."""

    name: str
    state: StepState
    sentence: str
    needs: int = 0
    actions: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoopStatus:
    """One place of the loop. `decisions` are newest first, each with the arms it rests on."""

    tier: str
    company: str | None
    steps: tuple[Step, ...]
    dataset: dict[str, Any] | None
    session: Session | None
    verdict: dict[str, Any] | None
    rollout: State | None
    decisions: tuple[dict[str, Any], ...]

    @property
    def now(self) -> Step:
        """Return the step that something is waited for at; the last one where all are done."""
        return next((one for one in self.steps if one.state != "done"), self.steps[-1])


def read_status(place: Place) -> LoopStatus:
    """Return where a place of the loop stands.

    Raises: LearningError for files of another format.
    """
    dataset = _dataset(place.folder)
    session = read_session(place.folder)
    verdict = _json(place.folder / VERDICT_FILE)
    has_rollout = (place.folder / STATE_FILE).exists()
    rollout = read_state(place.folder) if has_rollout else None
    log = place.folder / LOG_FILE
    decisions = tuple(deque(read_jsonl(log), _DECISIONS_SHOWN)) if log.exists() else ()
    steps = (
        _dataset_step(dataset), _session_step(session, erasure.read(place.folder)),
        _verdict_step(verdict), *_rollout_steps(rollout, _needs(decisions)),
    )  # fmt: skip
    return LoopStatus(
        place.tier, place.company, steps, dataset, session, verdict, rollout, decisions[::-1]
    )


def _dataset(folder: Path) -> dict[str, Any] | None:
    files = sorted((folder / "datasets").glob("*/manifest.json"), key=lambda f: f.stat().st_mtime)
    if not files:
        return None
    found = _json(files[-1]) or {}
    minimum = int(found["options"]["minimum_rows"])
    return {
        "hash": found["hash"], "folder": str(files[-1].parent), "train": len(found["train"]),
        "held_out": len(found["held_out"]), "removed": found["removed"], "minimum": minimum,
        "missing_rows": max(0, minimum - len(found["train"])),
        "created_at": files[-1].stat().st_mtime,
    }  # fmt: skip


def _dataset_step(dataset: dict[str, Any] | None) -> Step:
    if dataset is None:
        return Step("data set", "open", "no data set was made yet", actions=("dataset",))
    rows, missing = dataset["train"], dataset["missing_rows"]
    if missing:
        sentence = f"{rows} of {dataset['minimum']} rows; needs {missing} more"
        return Step("data set", "waiting", sentence, missing, ("dataset", "prompt"))
    return Step("data set", "done", f"{rows} rows to train on", actions=("dataset", "train"))


def _session_step(session: Session | None, tainted: erasure.Tainted) -> Step:
    if tainted:
        sentence = f"{tainted.records} records were erased: train anew without them"
        return Step("train", "waiting", sentence, actions=("train",))
    if session is None:
        return Step("train", "open", "nothing was trained yet", actions=("train",))
    sentence = f"{session.method} of {Path(session.run).name}"
    if session.state in ("running", "paused"):
        return Step("train", "waiting", f"{sentence}: {session.state}")
    if session.state == "done":
        return Step("train", "done", sentence, actions=("train",))
    return Step("train", "failed", session.reason, actions=("train",))


def _verdict_step(verdict: dict[str, Any] | None) -> Step:
    if verdict is None:
        return Step("gate", "open", "no candidate was measured yet", actions=("gate",))
    state: dict[str, StepState] = {"better": "done", "not_better": "failed"}
    return Step(
        "gate", state.get(verdict["outcome"], "waiting"), verdict["reason"],
        int(verdict["needs_cases"]), ("gate",),
    )  # fmt: skip


def _rollout_steps(state: State | None, needs: int) -> list[Step]:
    if state is None:
        return [Step("shadow", "open", "no rollout was started", actions=("start",))]
    names = ["shadow", *(f"{share:.0%}" for share in state.limits.shares), "all"]
    if state.stage == "rolled_back":
        return [Step("rollout", "failed", state.reason, actions=("start",))]
    at = len(names) if state.stage == "promoted" else state.step + 1
    actions: tuple[str, ...] = ("back", "release" if state.held else "hold")
    if state.limits.approve and state.approved_step < state.step + 1:
        actions = ("approve", *actions)
    steps = []
    for number, name in enumerate(names):
        if number < at:
            last = number == len(names) - 1
            steps.append(Step(name, "done", state.reason if last else "", 0,
                              ("back",) if last else ()))  # fmt: skip
        elif number == at:
            steps.append(Step(name, "waiting", state.reason, needs, actions))
        else:
            steps.append(Step(name, "open", ""))
    return steps


def _needs(decisions: tuple[dict[str, Any], ...]) -> int:
    return int(decisions[-1]["decision"].get("needs") or 0) if decisions else 0


def _json(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
