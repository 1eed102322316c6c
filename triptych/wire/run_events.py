"""The event log of a run (`events.jsonl`), read back: each numbered event once.

A run that was killed repeats the steps since its last checkpoint, and writes their events again
with the same numbers and the same values. Every reader must count them once; this is the only
place that does so. Left out: writing the log (`lm/train`) and what to make of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from triptych.durable import read_jsonl

# These take the next number when they are written; `state` and `log` lines, which tell what
# happened to the process and not to the model, share the number of the event before them.
NUMBERED = frozenset({"step", "eval", "sample", "checkpoint"})
# Enough for the longest sample and some steps after it.
_TAIL_BYTES = 16384


class RepeatFilter:
    """Recognise the events that a resumed run wrote again; feed it a log in order."""

    def __init__(self) -> None:
        self._last_seq = 0

    def is_new(self, event: Mapping[str, Any]) -> bool:
        """Return False for a numbered event that was seen before."""
        if event["type"] not in NUMBERED:
            return True
        if event["seq"] <= self._last_seq:
            return False
        self._last_seq = event["seq"]
        return True


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the history of a run in order, each numbered event once.

    The first of two equal numbers counts; the repetition has the same values to the bit.
    """
    repeats = RepeatFilter()
    for event in read_jsonl(path):
        if repeats.is_new(event):
            yield event


def whole_split(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return loss, bits per byte and tokens of the whole validation split, named `val/...`.

    Returns: None for an evaluation that read a part of it.
    """
    if "val_whole/loss" in event:
        return {f"val/{name}": event[f"val_whole/{name}"] for name in ("loss", "bpb", "tokens")}
    if event.get("whole_split"):
        return {name: event.get(name) for name in ("val/loss", "val/bpb", "val/tokens")}
    return None


def read_from(path: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines after a byte position of a log, repeats included.

    Returns: the events, each with `next`, the position after it; and the last position.
    """
    if not path.exists():
        return [], position
    events = []
    with path.open("rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):  # the writer is in the middle of this line
                break
            position += len(line)
            events.append({**json.loads(line), "next": position})
    return events, position


def last_step(path: Path) -> int:
    """Return the newest step in a log, read from its end; 0 where there is no step."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return 0
    for line in reversed(lines[:-1]):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the block began in the middle of this line
        if event.get("type") == "step":
            return int(event["step"])
    return 0
