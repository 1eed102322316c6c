"""What a run has said so far, for whoever looks at it again and again: each event is read once.

Left out: choosing points to draw (`metrics`), and the whole journey of a run that has ended
(`lm/evaluate/run_history`).
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

from triptych.lm.evaluate.run_history import NUMBERED

LATEST_STEPS = 20
Point = tuple[int, float]


class History:
    """The events of one run folder; `look` reads what was written since the last look.

    Only what a page shows is kept: the curves, the latest steps and evaluation, the samples.
    """

    def __init__(self, run: Path) -> None:
        self._events = run / "events.jsonl"
        self._begin()

    def _begin(self) -> None:
        self._position = 0
        self._seen = 0
        self.curves: dict[str, list[Point]] = defaultdict(list)
        self.steps: deque[dict[str, Any]] = deque(maxlen=LATEST_STEPS)
        self.last_eval: dict[str, Any] | None = None
        self.samples: list[dict[str, Any]] = []

    def look(self) -> History:
        """Read what is new; a log that became shorter is another one, and read from its start."""
        if self._events.exists() and self._events.stat().st_size < self._position:
            self._begin()
        events, self._position = read_from(self._events, self._position)
        for event in events:
            self._note(event)
        return self

    def _note(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind in NUMBERED:
            # A run that was killed repeats its steps since the last checkpoint.
            if event["seq"] <= self._seen:
                return
            self._seen = event["seq"]
        if kind == "step":
            self.steps.append(event)
        elif kind == "eval":
            self.last_eval = event
        elif kind == "sample":
            self.samples.append(event)
        for name, value in event.items():
            if "/" in name:
                self.curves[name].append((int(event["step"]), float(value)))


def read_from(path: Path, position: int) -> tuple[list[dict[str, Any]], int]:
    """Read whole events from a byte position of a log.

    Returns: the events, each with `next`, the position after it; and the last position.
    """
    if not path.exists():
        return [], position
    events = []
    with path.open("rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                break
            position += len(line)
            events.append({**json.loads(line), "next": position})
    return events, position


def tail(path: Path, tail_bytes: int) -> str:
    """Read the end of a text file."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - tail_bytes))
        return file.read().decode(errors="replace")
