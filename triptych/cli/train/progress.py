"""A progress line with an ETA on standard error, for anything longer than two seconds.

On a terminal the line is redrawn in place; in a log file one line is written at most every
ten seconds, so that logs stay readable.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

from triptych.formatting import format_duration


class Progress:
    """Show how far a piece of work is: `label  42 %  120/286 files  ETA 0:13`."""

    def __init__(
        self, label: str, total: float | None = None, unit: str = "", out: TextIO | None = None
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._start_s = time.monotonic()
        self._shown_s = self._start_s
        self._width = 0

    def update(self, done: float, note: str = "") -> None:
        """Redraw when enough time has passed since the last time."""
        now_s = time.monotonic()
        if now_s - self._shown_s < (0.1 if self._live else 10.0):
            return
        self._shown_s = now_s
        self._write(self._line(done, note, now_s - self._start_s))

    def finish(self, note: str = "") -> None:
        """Leave a last line that says how long it took."""
        elapsed_s = time.monotonic() - self._start_s
        text = f"{self.label}  done in {format_duration(elapsed_s)}" + (f"  {note}" if note else "")
        self._write(text)
        if self._live:
            print(file=self._out, flush=True)

    def _line(self, done: float, note: str, elapsed_s: float) -> str:
        if not self.total:
            return f"{self.label}  {done:,.0f} {self.unit}  {format_duration(elapsed_s)}  {note}"
        share = min(1.0, done / self.total)
        eta = format_duration(elapsed_s / share - elapsed_s) if share > 0 else "?"
        counts = f"{done:,.0f}/{self.total:,.0f} {self.unit}"
        return f"{self.label}  {share:4.0%}  {counts}  ETA {eta}  {note}"

    def _write(self, text: str) -> None:
        if self._live:
            padding = " " * max(0, self._width - len(text))
            print(f"\r{text}{padding}", end="", file=self._out, flush=True)
            self._width = len(text)
        else:
            print(text.rstrip(), file=self._out, flush=True)
