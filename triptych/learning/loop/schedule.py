"""When a cycle is worth starting by itself: enough rows, machine time left, and no load.

One cycle of a tier, or of a company in it, runs at a time, and one on the machine. Left out: the
training (`training`), which also pauses while the machine serves.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.durable import read_jsonl
from triptych.learning.loop import erasure
from triptych.learning.loop.controller import Place
from triptych.learning.loop.gateway import Gateway
from triptych.learning.loop.training import SESSIONS_FILE, Method, newest_dataset, why_not

WEEK_S = 7 * 86_400.0


@dataclass(frozen=True)
class Budget:
    """What cycles may use: machine time a week in seconds, and requests a minute beside them."""

    machine_s: float = 4 * 3600.0
    requests_a_minute: float = 30.0


@dataclass(frozen=True)
class Due:
    """Whether a cycle starts now, and why or why not in one sentence."""

    starts: bool
    reason: str


def due(
    place: Place, budget: Budget, *, busy: bool, spent_s: float, now: float, method: Method = "sft"
) -> Due:
    """Return whether a place's newest data set is trained on now.

    Raises: LearningError where there is no data set.
    """
    dataset = newest_dataset(place.folder)
    tainted = erasure.read(place.folder)
    # What was erased must leave the weights, whatever the meter and the calendar say.
    refused = why_not(place.folder, dataset, method, force=bool(tainted), now=now)
    if refused is not None:
        return Due(False, refused[1])
    if spent_s >= budget.machine_s:
        hours = budget.machine_s / 3600
        return Due(False, f"the {hours:g} hours of machine time of this week are used")
    if busy:
        return Due(False, "the machine serves more than beside a training")
    if tainted:
        return Due(True, f"{tainted.records} records were erased: it is trained anew without them")
    return Due(True, "the data set is large enough")


def spent_s(root: Path, now: float) -> float:
    """Return the seconds of machine time that sessions of every place used in the last week."""
    return sum(
        float(line["machine_s"])
        for file in root.glob(f"*/{SESSIONS_FILE}")
        for line in read_jsonl(file)
        if line["ended_at"] > now - WEEK_S
    )


def is_busy(gateway: Gateway, budget: Budget) -> bool:
    """Return whether the machine serves more requests than may run beside a training."""
    since = time.time() - 60
    page = gateway.call("GET", "/api/requests", since=since, limit=500)["requests"]
    cores = os.cpu_count() or 1
    return len(page) > budget.requests_a_minute or os.getloadavg()[0] > 4 * cores


class Scheduler:
    """Start the cycle of one place at a time. `commands` are the data set's and the training's."""

    def __init__(
        self, root: Path, budget: Budget, busy: Callable[[], bool],
        commands: Callable[[Place], tuple[Sequence[str], Sequence[str]]],
    ) -> None:  # fmt: skip
        self._root, self._budget, self._busy, self._commands = root, budget, busy, commands
        self._child: subprocess.Popen[bytes] | None = None
        self.next_s = 0.0
        """When the next turn is due, on the monotonic clock of the caller."""

    def turn(self, places: Iterable[Place], now: float) -> dict[str, Due]:
        """Return for each place whether its cycle starts, and start the first that does."""
        found: dict[str, Due] = {}
        if self._child is not None and self._child.poll() is None:
            return found
        self._child = None
        for place in places:
            make, train = self._commands(place)
            subprocess.run(make, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            if not any((place.folder / "datasets").glob("*/manifest.json")):
                continue
            one = due(
                place, self._budget, busy=self._busy(), spent_s=spent_s(self._root, now), now=now
            )
            found[place.folder.name] = one
            if one.starts:
                self._child = subprocess.Popen(train, stdout=subprocess.DEVNULL)
                return found
        return found

    def close(self) -> None:
        """Stop the training at a checkpoint; the next one resumes it."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            self._child.wait()
