"""Let rollouts go on, go back or wait: once, or at an interval until stopped.

Each decision holds the folder's lock, so that a command and the loop never decide at once. Where
the gateway is away nothing changes and the next turn tries again. Left out: what is decided
(`rollout`) and how traffic is moved (`traffic`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from triptych.durable import FolderLock
from triptych.errors import TriptychError
from triptych.learning.loop.gateway import Gateway
from triptych.learning.loop.rollout import STATE_FILE, Arm, Decision, Rollout, State, read_state
from triptych.learning.loop.traffic import Traffic
from triptych.wire.tiers import TIERS

LOCK = "lock"
# A failure is seen by the next turn; rolling back within 60 s needs less than half of it.
INTERVAL_S = 10.0


@dataclass(frozen=True)
class Place:
    """The folder of one tier's loop, or of one company's in it."""

    folder: Path
    tier: str
    company: str | None = None

    def traffic(self, gateway: Gateway) -> Traffic:
        """Return the traffic that belongs to it."""
        return Traffic(gateway, self.tier, self.company)

    def lock(self) -> FolderLock:
        """Take the folder's lock, after the present holder."""
        return FolderLock(self.folder / LOCK).wait()


@dataclass(frozen=True)
class Turn:
    """What one turn did: the state after it, and the decision with what it rests on."""

    place: Place
    state: State
    decision: Decision | None = None
    arms: tuple[Arm, Arm] | None = None


def place_of(root: Path, tier: str, company: str | None = None) -> Place:
    """Return the place of a tier, or of a company in it, below the loop's folder."""
    return Place(root / (tier if company is None else f"{tier}-{company}"), tier, company)


def places(root: Path) -> list[Place]:
    """Return every place that has a folder."""
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        tier, _, company = folder.name.partition("-")
        if tier in TIERS and folder.is_dir():
            found.append(Place(folder, tier, company or None))
    return found


def decide(place: Place, gateway: Gateway) -> Turn:
    """Decide by what was observed so far, and move the traffic where the decision says so.

    Raises: LearningError where there is no rollout, or the gateway refuses or is away.
    """
    traffic = place.traffic(gateway)
    with place.lock():
        rollout = Rollout(place.folder, traffic.move)
        state = rollout.state
        if not state.is_over and not traffic.agrees(state):
            # The challenger may have been stopped in a hurry: it is never turned on again here.
            rollout.back(f"the flag {traffic.flag} or {traffic.shadow_flag} was changed by hand")
            return Turn(place, rollout.state)
        if state.is_over:
            return Turn(place, state)
        arms = traffic.observe(state)
        decision = rollout.advance(*arms)
        return Turn(place, rollout.state, decision, arms)


def watch(
    root: Path,
    gateway: Callable[[], Gateway],
    stop: threading.Event,
    *,
    interval_s: float = INTERVAL_S,
    on_turn: Callable[[Turn], None] = lambda turn: None,
    on_error: Callable[[Place, TriptychError], None] = lambda place, error: None,
    on_round: Callable[[], None] = lambda: None,
) -> None:
    """Decide about every rollout below a folder at an interval, until `stop` is set."""
    while not stop.is_set():
        for place in places(root):
            try:
                if (place.folder / STATE_FILE).exists() and not _done(place):
                    on_turn(decide(place, gateway()))
            except TriptychError as error:
                on_error(place, error)
        on_round()
        stop.wait(interval_s)


def _done(place: Place) -> bool:
    state = read_state(place.folder)
    return state.is_over and state.applied
