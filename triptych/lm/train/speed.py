"""How fast a run trains, measured step by step."""

from __future__ import annotations

import time


class Speed:
    """Training speed, without the time spent on checkpoints and evaluations."""

    def __init__(self, batch_tokens: int) -> None:
        self._batch_tokens = batch_tokens
        self._step_s = 0.0
        self._steps = 0
        self._since_s = time.perf_counter()

    def tick(self) -> None:
        """Count a step that has just ended."""
        took_s = time.perf_counter() - self._since_s
        self._steps += 1
        # The first step may compile the model, which says nothing about the others.
        smooth = self._steps > 2
        self._step_s = 0.9 * self._step_s + 0.1 * took_s if smooth else took_s
        self._since_s = time.perf_counter()

    def skip(self) -> None:
        """Measure the next step from now."""
        self._since_s = time.perf_counter()

    @property
    def tok_per_s(self) -> float:
        """Return tokens per second, smoothed over about ten steps."""
        return self._batch_tokens / self._step_s
