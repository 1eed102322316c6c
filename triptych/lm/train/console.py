"""A run in the terminal: one live line, and one permanent line per evaluation, sample and message.

On a terminal the line is redrawn; in a log file it appears at most every ten seconds.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

from triptych.lm.train import events


class Console:
    """Print the events of a run to a terminal or a log file."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._shown_s = 0.0
        self._width = 0
        self._steps = 0
        self._bpb = ""

    def __call__(self, event: events.Event) -> None:
        """Print one event."""
        match event:
            case events.Step():
                self._step(event)
            case events.Eval():
                self._bpb = f"  bpb {event.bpb:.3f}"
                scope = "whole split" if event.whole_split else f"{event.tokens:,} tokens"
                self._keep(
                    f"step {event.step:>6,}  val/loss {event.loss:.4f}  val/bpb {event.bpb:.4f}"
                    f"  ({scope})"
                )
                if event.whole_loss is not None:
                    self._keep(
                        f"{'':>11}  val_whole/loss {event.whole_loss:.4f}  val_whole/bpb "
                        f"{event.whole_bpb:.4f}  ({event.whole_tokens:,} tokens, the whole split)"
                    )
            case events.Sample():
                self._keep(f"  {event.prompt!r} -> {event.text!r}")
            case events.State():
                self._steps = event.steps
                note = f": {event.message}" if event.message else ""
                self._keep(f"{event.state} at step {event.step:,}{note}")
            case events.Log():
                level = "" if event.level == "info" else f"{event.level}: "
                self._keep(f"{level}{event.message}")

    def progress(self, text: str) -> None:
        """Show a line that the next one replaces."""
        if self._is_time():
            self._show(text)

    def _is_time(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._shown_s < (0.1 if self._live else 10.0):
            return False
        self._shown_s = now_s
        return True

    def _step(self, event: events.Step) -> None:
        if not self._is_time():
            return
        text = (
            f"step {event.step:,}/{self._steps:,}  loss {event.loss:.3f}{self._bpb}"
            f"  {event.tok_per_s:,.0f} tok/s  MFU {event.mfu:.0%}"
            f"  {event.memory_bytes / 1e9:.1f} GB  ETA {_clock(event.eta_s)}"
        )
        self._show(text)

    def _show(self, text: str) -> None:
        if self._live:
            print(f"\r{text:<{self._width}}", end="", file=self._out, flush=True)
            self._width = len(text)
        else:
            print(text, file=self._out, flush=True)

    def _keep(self, text: str) -> None:
        if self._live and self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=self._out)
            self._width = 0
        print(text, file=self._out, flush=True)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
