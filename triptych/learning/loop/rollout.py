"""A rollout: shadow, then a growing share of the users, then everybody; back at any moment.

`decide` is a pure function of the state and of what was observed, so every decision can be computed
again from the record. `Rollout` keeps the state on disk: it is written before the traffic is moved
and the move is repeated after a kill, so state and traffic never disagree for long. Left out: where
observations come from and how traffic is moved (ports that the caller hands in).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from triptych.durable import AppendLog, write_atomic
from triptych.errors import LearningError
from triptych.learning.loop.statistics import difference_bounds

FORMAT = 1
STATE_FILE = "rollout.json"
LOG_FILE = "rollout.jsonl"
Stage = Literal["shadow", "live", "promoted", "rolled_back"]
Action = Literal["wait", "advance", "promote", "roll_back"]


@dataclass(frozen=True)
class Limits:
    """When a rollout goes on and when it goes back. Shares are between 0 and 1."""

    shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    shadow_requests: int = 200
    stage_requests: int = 100
    minimum_rated: int = 100
    maximum_rated: int = 4000
    alpha: float = 0.05
    latency_ratio: float = 1.2
    error_ratio: float = 2.0
    allowed_error_share: float = 0.01
    approve: bool = False


@dataclass(frozen=True)
class Arm:
    """What one model did since the rollout began, the challenger's shadow copies too.

    `refusals` are counted among the `compared` questions, which both models answered: those that
    were copied. `p95_s` is NaN without requests.
    """

    requests: int = 0
    errors: int = 0
    good: int = 0
    rated: int = 0
    refusals: int = 0
    compared: int = 0
    secrets: int = 0
    p95_s: float = math.nan


@dataclass(frozen=True)
class State:
    """Where a rollout stands. `share` is the challenger's share of the users."""

    id: str
    champion: str
    challenger: str
    stage: Stage = "shadow"
    step: int = -1
    share: float = 0.0
    held: bool = False
    approved_step: int = -1
    stage_start: int = 0
    reason: str = "begun"
    applied: bool = False
    started_at: float = 0.0
    limits: Limits = field(default_factory=Limits)

    @property
    def is_over(self) -> bool:
        """Return whether nothing more will be decided."""
        return self.stage in ("promoted", "rolled_back")


@dataclass(frozen=True)
class Decision:
    """What to do now, why in one sentence, and how many requests or ratings are missing."""

    action: Action
    reason: str
    needs: int = 0


def decide(state: State, champion: Arm, challenger: Arm) -> Decision:
    """Return what the observations allow. Failures act even while a person is being waited for."""
    if state.is_over:
        return Decision("wait", f"the rollout is over: {state.reason}")
    failure = _failure(state, champion, challenger)
    if failure:
        return Decision("roll_back", failure)
    if state.held:
        return Decision("wait", "held by hand")
    if state.stage == "shadow":
        missing = state.limits.shadow_requests - challenger.requests
        if missing > 0:
            return Decision("wait", f"shadow: needs {missing} more requests", missing)
        return _advance(state, f"{challenger.requests} shadow requests without a failure")
    return _live(state, champion, challenger)


def _failure(state: State, champion: Arm, challenger: Arm) -> str:
    """Return why the challenger must go back; empty where it need not."""
    limits = state.limits
    if challenger.secrets:
        return f"the challenger repeated {challenger.secrets} secrets"
    enough = challenger.requests >= min(20, limits.stage_requests)
    if enough:
        share = challenger.errors / challenger.requests
        usual = champion.errors / champion.requests if champion.requests else 0.0
        if share > max(limits.error_ratio * usual, limits.allowed_error_share):
            return f"{share:.1%} of the challenger's answers failed, of the champion's {usual:.1%}"
        if challenger.p95_s > champion.p95_s * limits.latency_ratio:
            return (
                f"the challenger is slower: p95 {challenger.p95_s:.2f} s, the champion's "
                f"{champion.p95_s:.2f} s"
            )
    refused = difference_bounds(
        (champion.refusals, champion.compared), (challenger.refusals, challenger.compared),
        limits.alpha,
    )  # fmt: skip
    if enough and refused.low > 0:
        return (
            f"the challenger refuses {challenger.refusals} of {challenger.compared} questions, the "
            f"champion {champion.refusals}"
        )
    bounds = _bounds(state, champion, challenger)
    if challenger.rated >= 20 and bounds.high < 0:
        return f"the challenger is rated worse: at most {bounds.high:+.1%}"
    return ""


def _live(state: State, champion: Arm, challenger: Arm) -> Decision:
    limits = state.limits
    bounds = _bounds(state, champion, challenger)
    if not (math.isfinite(champion.p95_s) and math.isfinite(challenger.p95_s)):
        return Decision(
            "wait", "no latency was measured: traffic has stopped, or it has no value", 1
        )
    rated = min(champion.rated, challenger.rated)
    better = rated >= limits.minimum_rated and bounds.low > 0
    if rated >= limits.maximum_rated and not better:
        return Decision("roll_back", f"no gain was shown in {rated} ratings of each model")
    missing = limits.stage_requests - (challenger.requests - state.stage_start)
    if missing > 0:
        return Decision("wait", f"{state.share:.0%}: needs {missing} more requests", missing)
    if state.step + 1 < len(limits.shares):
        return _advance(state, f"{state.share:.0%} of the users without a failure")
    if better:
        return Decision("promote", f"rated better: at least {bounds.low:+.1%}")
    more = max(1, limits.minimum_rated - rated)
    return Decision("wait", f"{state.share:.0%}: needs about {more} more ratings", more)


def _advance(state: State, reason: str) -> Decision:
    if state.limits.approve and state.approved_step < state.step + 1:
        return Decision("wait", f"{reason}; waits for approval")
    return Decision("advance", reason)


def _bounds(state: State, champion: Arm, challenger: Arm) -> Any:
    return difference_bounds(
        (champion.good, champion.rated), (challenger.good, challenger.rated), state.limits.alpha
    )


def follow(state: State, decision: Decision, challenger: Arm) -> State:
    """Return the state after a decision; a wait changes only the reason that is shown."""
    if decision.action == "wait":
        return replace(state, reason=decision.reason)
    if decision.action == "roll_back":
        return replace(state, stage="rolled_back", share=0.0, applied=False, reason=decision.reason)
    if decision.action == "promote":
        return replace(state, stage="promoted", share=1.0, applied=False, reason=decision.reason)
    step = state.step + 1
    return replace(
        state, stage="live", step=step, share=state.limits.shares[step], applied=False,
        stage_start=challenger.requests, reason=decision.reason,
    )  # fmt: skip


class Rollout:
    """One rollout in a folder. `move` gives the challenger a share of the traffic; it may repeat.

    Without `settle` a move that was not confirmed is not repeated at once: what is decided next
    replaces it.

    Raises: LearningError where the folder holds no rollout or one of another format.
    """

    def __init__(self, folder: Path, move: Callable[[State], None], *, settle: bool = True) -> None:
        self.folder = Path(folder)
        self._move = move
        self.state = _read(self.folder / STATE_FILE)
        if settle:
            self._apply()

    @staticmethod
    def begin(
        folder: Path, move: Callable[[State], None], champion: str, challenger: str,
        limits: Limits | None = None, started_at: float = 0.0,
    ) -> Rollout:  # fmt: skip
        """Start a rollout in its shadow stage; `started_at` is in Unix seconds.

        Raises: LearningError where the folder holds a rollout that is not over.
        """
        folder = Path(folder)
        if (folder / STATE_FILE).exists() and not _read(folder / STATE_FILE).is_over:
            raise LearningError(
                "a rollout of this tier is under way",
                hint="wait for it, or take it back: triptych learn back",
            )
        names = f"{champion}\0{challenger}\0{started_at}"
        digest = hashlib.sha256(names.encode()).hexdigest()[:12]
        state = State(
            digest, champion, challenger, limits=limits or Limits(), started_at=started_at
        )
        _write(folder, state)
        return Rollout(folder, move)

    def advance(self, champion: Arm, challenger: Arm) -> Decision:
        """Decide by what was observed so far, and move the traffic where the decision says so."""
        decision = decide(self.state, champion, challenger)
        if decision.action != "wait" or decision.reason != self.state.reason:
            self._change(
                follow(self.state, decision, challenger), asdict(decision), champion, challenger
            )
        return decision

    def back(self, reason: str = "taken back by hand") -> None:
        """Return all traffic to the champion now, a promoted challenger's too."""
        if self.state.stage != "rolled_back":
            self._change(
                replace(self.state, stage="rolled_back", share=0.0, applied=False, reason=reason),
                {"action": "roll_back", "reason": reason},
            )

    def hold(self, held: bool = True) -> None:
        """Stay at the present share until released; failures still go back."""
        self._change(replace(self.state, held=held), {"action": "hold" if held else "release"})

    def approve(self) -> None:
        """Allow the next step where the limits ask for a person's approval."""
        step = self.state.step + 1
        self._change(replace(self.state, approved_step=step), {"action": "approve", "step": step})

    def _change(self, state: State, decision: dict[str, Any], *arms: Arm) -> None:
        with AppendLog(self.folder / LOG_FILE) as log:
            seen = [asdict(arm) for arm in arms]
            log.append(plain({"decision": decision, "arms": seen, "state": asdict(state)}))
        _write(self.folder, state)
        self.state = state
        self._apply()

    def _apply(self) -> None:
        """Move the traffic where the state says and it was not confirmed; repeated after a kill."""
        if not self.state.applied:
            self._move(self.state)
            self.state = replace(self.state, applied=True)
            _write(self.folder, self.state)


def read_state(folder: Path) -> State:
    """Return the state of the rollout in a folder; nothing is moved.

    Raises: LearningError where there is none.
    """
    return _read(Path(folder) / STATE_FILE)


def _write(folder: Path, state: State) -> None:
    text = json.dumps({"format": FORMAT, **asdict(state)}, sort_keys=True, indent=2)
    write_atomic(folder / STATE_FILE, text + "\n")


def _read(file: Path) -> State:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LearningError(
            "there is no rollout", hint="start one: triptych learn start"
        ) from error
    if values.pop("format", None) != FORMAT:
        raise LearningError(f"{file} is of another format", hint="update Triptych, then try again")
    limits = values.pop("limits")
    return State(**values, limits=Limits(**{**limits, "shares": tuple(limits["shares"])}))


def plain(value: Any) -> Any:
    """Return a value for JSON: NaN, which JSON does not have, becomes null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
