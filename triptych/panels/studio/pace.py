"""When each place of a watched run is drawn anew: once it shows something else, and not too often.

What one visitor had drawn serves all who watch the same run. Left out: how it is drawn
(`drawing`), and who may see it (`watch`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable

from triptych.config import Config
from triptych.lm.runs.history import LiveHistory
from triptych.lm.runs.store import Run
from triptych.panels.studio import drawing, ended

PLACES = ("head", "loss", "bpb", "samples", "more", "log", "links")
RUNS_KEPT = 32
# A picture may cost this share of a core, and a long curve changes little in a moment.
DRAWING_FRAC = 0.05
CURVE_S, CURVE_S_PER_POINT = 2.0, 0.02


class Drawings:
    """Keep the newest drawing of each run, for all who watch it."""

    def __init__(self, config: Config, playground: str = "") -> None:
        self._config = config
        self._playground = playground
        self._runs: dict[str, _Watched] = {}
        self._one = threading.Lock()

    def of(self, run: Run, places: Collection[str] = PLACES) -> dict[str, str]:
        """Return some places of a run, each as new as its cost allows."""
        with self._one:
            watched = self._runs.pop(run.run_id, None)
            watched = watched or _Watched(run, self._config, self._playground)
            self._runs = {**dict(list(self._runs.items())[-RUNS_KEPT:]), run.run_id: watched}
            return watched.look(run, places)


class _Watched:
    """One run that is looked at."""

    def __init__(self, run: Run, config: Config, playground: str) -> None:
        self._history = LiveHistory(run.path)
        self._config = config
        self._playground = playground
        self._places = {name: Place() for name in PLACES}

    def look(self, run: Run, places: Collection[str]) -> dict[str, str]:
        history = self._history.refresh()
        steps, evals = len(history.curves["train/loss"]), len(history.curves["val/bpb"])
        curve_s = min(CURVE_S, CURVE_S_PER_POINT * steps)
        log = run.path / "worker.log"
        log_bytes = log.stat().st_size if log.exists() else 0
        moment = int(time.time()) // 10  # whether a run stalls is a matter of time
        # What each place shows, how it is drawn, and for how long a drawing is good enough.
        shows: dict[str, tuple[Hashable, Callable[[], str], float]] = {
            "head": (
                (run.state, run.message, run.step, run.steps, steps, evals, moment),
                lambda: drawing.head(run, history, self._config.runs.stalled_s),
                0.0,
            ),
            "loss": ((steps, evals), lambda: drawing.loss(history), curve_s),
            "bpb": (evals, lambda: drawing.bpb(history), 0.0),
            "samples": (len(history.samples), lambda: drawing.samples(history), 0.0),
            "more": (steps, lambda: drawing.more(history), curve_s),
            "log": (log_bytes, lambda: drawing.log(run), CURVE_S),
            "links": (
                (run.state, run.newest_checkpoint),
                lambda: ended.links(run, self._config, self._playground),
                0.0,
            ),
        }
        for name in places:
            self._places[name].show(*shows[name])
        return {name: self._places[name].drawn for name in places}


class Place:
    """One drawing, and what it was drawn from."""

    def __init__(self) -> None:
        self.drawn = ""
        self._shows: Hashable = self
        self._good_until_s = 0.0

    def show(self, what: Hashable, draw: Callable[[], str], least_s: float) -> None:
        """Draw anew if there is something else to show and it is time."""
        if what == self._shows or time.monotonic() < self._good_until_s:
            return
        began_s = time.thread_time()
        self.drawn = draw()
        cost_s = time.thread_time() - began_s
        self._shows = what
        self._good_until_s = time.monotonic() + max(least_s, cost_s / DRAWING_FRAC)
