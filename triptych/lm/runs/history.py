"""The events of a run that may still train, read as they are written.

Left out: choosing points to draw (`metrics`), and the whole history of a run that has ended
(`lm/evaluate/run_history`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from pathlib import Path
from typing import Any

from triptych.wire.run_events import RepeatFilter, read_from

LATEST_STEPS = 20
Point = tuple[int, float]


class LiveHistory:
    """What a page shows of one run: the curves, the latest steps and evaluation, the samples.

    Each `refresh` reads only what was written since the one before.
    """

    def __init__(self, run: Path) -> None:
        self._events = run / "events.jsonl"
        self._clear()

    def _clear(self) -> None:
        self._position = 0
        self._repeats = RepeatFilter()
        self.curves: dict[str, list[Point]] = defaultdict(list)
        self.steps: deque[dict[str, Any]] = deque(maxlen=LATEST_STEPS)
        self.last_eval: dict[str, Any] | None = None
        self.samples: list[dict[str, Any]] = []

    def refresh(self) -> LiveHistory:
        """Read what is new; a log that became shorter was replaced, and is read from its start."""
        if self._events.exists() and self._events.stat().st_size < self._position:
            self._clear()
        events, self._position = read_from(self._events, self._position)
        for event in events:
            if self._repeats.is_new(event):
                self._add(event)
        return self

    def _add(self, event: dict[str, Any]) -> None:
        if event["type"] == "step":
            self.steps.append(event)
        elif event["type"] == "eval":
            self.last_eval = event
        elif event["type"] == "sample":
            self.samples.append(event)
        for name, value in event.items():
            if "/" in name:
                self.curves[name].append((int(event["step"]), float(value)))


def tail(path: Path, tail_bytes: int) -> str:
    """Return the end of a text file; empty where there is no such file."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - tail_bytes))
        return file.read().decode(errors="replace")
