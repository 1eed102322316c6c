"""The gate's files: the plan with its hash, the cases, and what each model did with them.

All are JSON. Cases: a list of {id, slice, answerable, prompt, reference}. Results of one model:
{"results": {case id: {right, refused, leaked, text}}, "measures": {general_bpb, latency_s, ...}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from triptych.durable import write_atomic
from triptych.errors import LearningError
from triptych.learning.loop.gate import FORMAT, Case, Measures, Plan, Result

# What a case is asked with; the gate itself needs none of it.
_QUESTION = ("prompt", "messages", "reference")


def write_plan(file: Path, plan: Plan) -> None:
    """Write a plan that was not there before, with its hash.

    Raises: LearningError where the file exists: a plan is never changed after it was written.
    """
    if file.exists():
        raise LearningError(f"{file} exists", hint="write the next plan to another file")
    values = {"format": FORMAT, **asdict(plan), "hash": plan.hash}
    write_atomic(file, json.dumps(values, indent=2, sort_keys=True) + "\n")


def read_plan(file: Path) -> Plan:
    """Read a plan.

    Raises: LearningError where it was changed since it was written, or is no plan.
    """
    values = _object(file)
    written, form = values.pop("hash", None), values.pop("format", None)
    if form != FORMAT:
        raise LearningError(
            f"{file} is no plan of format {FORMAT}", hint="write one: triptych learn plan FILE"
        )
    plan: Plan = _made(Plan, values, str(file))
    if plan.hash != written:
        raise LearningError(
            f"{file} was changed after it was written: its hash does not fit",
            hint="write a new plan before the next run: triptych learn plan FILE",
        )
    return plan


def read_cases(file: Path) -> tuple[list[Case], list[str]]:
    """Read the gate's cases.

    Returns: the cases, and the prompts that are named beside them.
    Raises: LearningError for a file that holds no list of cases.
    """
    rows = rows_of(file)
    prompts = [str(row["prompt"]) for row in rows if row.get("prompt")]
    bare = [{k: v for k, v in row.items() if k not in _QUESTION} for row in rows]
    return [_made(Case, row, f"{file}, case {at}") for at, row in enumerate(bare)], prompts


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Return the cases as they stand in the file.

    Raises: LearningError for a file that holds no list of cases.
    """
    rows = _json(file)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"id", "slice"} <= set(row) for row in rows
    ):
        raise LearningError(f"{file} holds no list of cases", hint='[{"id": ..., "slice": ...}]')
    return rows


def known_prompts(folder: Path, new: list[str]) -> list[str]:
    """Return the questions of every gate that a place ever named, and keep the new ones.

    A later data set, also one that is made by itself, never trains on them either.
    """
    file = folder / "gate_prompts.json"
    before = _object(file)["prompts"] if file.exists() else []
    found = sorted({*before, *new})
    if found != before:
        folder.mkdir(parents=True, exist_ok=True)
        values = {"format": FORMAT, "prompts": found}
        write_atomic(file, json.dumps(values, indent=1) + "\n")
    return found


def read_results(file: Path, plan: Plan) -> tuple[dict[str, Result], Measures]:
    """Read what one model did with the cases.

    Raises: LearningError for another shape, or where they were made for another plan.
    """
    values = _object(file)
    if values.get("plan_hash", plan.hash) != plan.hash:
        raise LearningError(f"{file} was made for another plan", hint="run the model again for it")
    results = values.get("results")
    if not isinstance(results, dict):
        raise LearningError(
            f"{file} has no results", hint='{"results": {"case id": {"right": true}}}'
        )
    found = {one: _made(Result, row, f"{file}, {one}") for one, row in results.items()}
    return found, _made(Measures, values.get("measures") or {}, f"{file}, measures")


def _made(kind: Any, values: Any, where: str) -> Any:
    known = [one.name for one in fields(kind)]
    if not isinstance(values, Mapping) or not set(values) <= set(known):
        unknown = sorted(set(values) - set(known)) if isinstance(values, Mapping) else values
        raise LearningError(
            f"{where}: unknown fields {unknown}", hint=f"fields: {', '.join(known)}"
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise LearningError(f"{where}: {error}", hint=f"fields: {', '.join(known)}") from error


def _object(file: Path) -> dict[str, Any]:
    values = _json(file)
    if not isinstance(values, dict):
        raise LearningError(f"{file} holds no JSON object", hint="see docs/guides/loop.md")
    return values


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LearningError(
            f"{file} cannot be read as JSON: {error}", hint="see docs/guides/loop.md"
        ) from error
