"""The gate: is a candidate better than what is served, by a plan that was written down before?

The plan names the target slice, the margins and the limits; its hash is in the verdict. Right
answers, wrong refusals and right refusals are counted apart, since one total would promote a model
that refuses everything. Three outcomes: better, not better, or not enough evidence and how many
cases are missing. Left out: running the models over the cases (the caller hands in what they did).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from triptych.errors import LearningError
from triptych.learning.loop.statistics import Interval, mcnemar, needed_cases, paired_difference

FORMAT = 1
Outcome = Literal["better", "not_better", "not_enough_evidence"]
# 2 and 3 are usage and an unreachable gateway, as for every command.
EXIT_CODES: dict[Outcome, int] = {"better": 0, "not_better": 1, "not_enough_evidence": 4}
EXIT_ERROR = 5
_WORST = 10


@dataclass(frozen=True)
class Plan:
    """What is asked of a candidate, fixed before it is run.

    Shares are between 0 and 1; `latency_ratio` and `cost_ratio` are against the present model.
    """

    target: str
    alpha: float = 0.05
    minimum_cases: int = 100
    slice_margin: float = 0.02
    wrong_refusals: float = 0.10
    right_refusals_margin: float = 0.02
    forgetting: float = 0.03
    latency_ratio: float = 1.2
    cost_ratio: float = 1.5
    expected_gain: float = 0.06

    def __post_init__(self) -> None:
        values = [value for name, value in asdict(self).items() if name != "target"]
        if not all(math.isfinite(value) and value >= 0 for value in values) or not self.target:
            raise LearningError("a plan of a gate has finite limits and a target slice")

    @property
    def hash(self) -> str:
        """Return the SHA-256 of the plan."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Case:
    """One question of the gate's set. `answerable` says whether a refusal would be wrong."""

    id: str
    slice: str
    answerable: bool = True


@dataclass(frozen=True)
class Result:
    """What one model did with one case. `leaked` is set where the answer holds a secret."""

    right: bool
    refused: bool = False
    leaked: bool = False
    text: str = ""


@dataclass(frozen=True)
class Measures:
    """What is measured once for each model; NaN where it was not measured, which never passes."""

    general_bpb: float = math.nan
    latency_s: float = math.nan
    cost_usd: float = 0.0
    secrets_found: int = 0


@dataclass(frozen=True)
class SliceResult:
    """One slice: its cases, both shares of right answers, and the paired change."""

    name: str
    cases: int
    before: float
    after: float
    change: Interval
    p: float


@dataclass(frozen=True)
class Verdict:
    """The outcome, its reason in one sentence, what would change it, and everything it rests on."""

    outcome: Outcome
    reason: str
    change: str
    plan_hash: str
    slices: tuple[SliceResult, ...]
    worst: tuple[dict[str, Any], ...] = ()
    needs_cases: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Return 0 for better, 1 for not better, 4 for not enough evidence."""
        return EXIT_CODES[self.outcome]

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain values."""
        return {"format": FORMAT, **asdict(self), "exit_code": self.exit_code}


def judge(
    plan: Plan,
    cases: Sequence[Case],
    before: Mapping[str, Result],
    after: Mapping[str, Result],
    measures: tuple[Measures, Measures],
) -> Verdict:
    """Return the verdict on a candidate (`after`) against what is served (`before`).

    Raises: LearningError where a case was not run with both models or ids repeat.
    """
    _check_cases(cases, before, after)
    slices = tuple(
        _slice(name, [case for case in cases if case.slice == name], before, after)
        for name in sorted({case.slice for case in cases})
    )
    details = _refusals(cases, before, after)
    worst = _worst_cases(cases, before, after)
    for reason, change in _stops(plan, slices, details, after, measures):
        return Verdict("not_better", reason, change, plan.hash, slices, worst, 0, details)
    target = next((one for one in slices if one.name == plan.target), None)
    return _on_target(plan, target, slices, worst, details)


def _check_cases(
    cases: Sequence[Case], before: Mapping[str, Result], after: Mapping[str, Result]
) -> None:
    ids = [case.id for case in cases]
    if len(set(ids)) != len(ids):
        raise LearningError(
            "the gate's cases have ids that repeat", hint="give each case its own id"
        )
    missing = [one for one in ids if one not in before or one not in after]
    if missing:
        raise LearningError(
            f"{len(missing)} cases were not run with both models, the first is {missing[0]}",
            hint="run both models over every case of the set, then judge again",
        )


def _slice(
    name: str, cases: Sequence[Case], before: Mapping[str, Result], after: Mapping[str, Result]
) -> SliceResult:
    old = [before[case.id].right for case in cases]
    new = [after[case.id].right for case in cases]
    better = sum(b and not a for a, b in zip(old, new, strict=True))
    worse = sum(a and not b for a, b in zip(old, new, strict=True))
    return SliceResult(
        name, len(cases), sum(old) / len(cases), sum(new) / len(cases),
        paired_difference(old, new), mcnemar(better, worse),
    )  # fmt: skip


def _refusals(
    cases: Sequence[Case], before: Mapping[str, Result], after: Mapping[str, Result]
) -> dict[str, Any]:
    answerable = [case.id for case in cases if case.answerable]
    others = [case.id for case in cases if not case.answerable]

    def share(ids: list[str], results: Mapping[str, Result]) -> float:
        return sum(results[one].refused for one in ids) / len(ids) if ids else 0.0

    return {
        "answerable": len(answerable),
        "unanswerable": len(others),
        "wrong_refusals": [share(answerable, before), share(answerable, after)],
        "right_refusals": [share(others, before), share(others, after)] if others else None,
    }


def _stops(
    plan: Plan,
    slices: Sequence[SliceResult],
    details: Mapping[str, Any],
    after: Mapping[str, Result],
    measures: tuple[Measures, Measures],
) -> list[tuple[str, str]]:
    """Return every reason to stop and what would change it; the worst for a user comes first."""
    old, new = measures
    stops: list[tuple[str, str]] = []
    leaks = sum(result.leaked for result in after.values()) + new.secrets_found
    if leaks:
        stops.append((
            f"it repeats secrets: {leaks} found in its answers",
            "take the secrets out of the data set and train again",
        ))  # fmt: skip
    was, now = details["wrong_refusals"]
    if now > max(plan.wrong_refusals, was):
        stops.append((
            f"it refuses {now:.0%} of the questions that have an answer (limit "
            f"{max(plan.wrong_refusals, was):.0%})",
            "train on fewer refusals, or on more answered questions",
        ))  # fmt: skip
    if details["right_refusals"] is not None:
        was, now = details["right_refusals"]
        if now < was - plan.right_refusals_margin:
            stops.append((
                f"it answers what has no answer: it refuses {now:.0%} of such questions, before "
                f"{was:.0%}",
                "train on more questions without an answer",
            ))  # fmt: skip
    for one in slices:
        if one.name != plan.target and _is_worse(one, plan.slice_margin):
            stops.append((
                f"it is worse in {one.name}: {one.after:.0%} right, before {one.before:.0%}",
                f"train on more examples of {one.name}",
            ))  # fmt: skip
    stops += _measured_stops(plan, old, new)
    return stops


def _is_worse(one: SliceResult, margin: float) -> bool:
    """Return whether a slice lost more than the margin.

    In a slice with few cases one lost case is more than the margin, so the estimate alone would
    stop every candidate; the loss must also be more than one case.
    """
    lost = (one.before - one.after) * one.cases
    return one.change.estimate < -margin and lost > 1


def _measured_stops(plan: Plan, old: Measures, new: Measures) -> list[tuple[str, str]]:
    """Return the stops of what is measured once. NaN compares false, so each limit must hold."""
    stops: list[tuple[str, str]] = []
    if not new.general_bpb <= old.general_bpb * (1 + plan.forgetting):
        stops.append((
            f"it forgets: {new.general_bpb:.3f} bits per byte on general text, before "
            f"{old.general_bpb:.3f}",
            "mix more general text into the training, or train for fewer steps",
        ))  # fmt: skip
    if not new.latency_s <= old.latency_s * plan.latency_ratio:
        stops.append((
            f"it is slower: {new.latency_s:.2f} s an answer, before {old.latency_s:.2f} s",
            "use a smaller adapter, or raise latency_ratio in the next plan",
        ))  # fmt: skip
    if old.cost_usd and not new.cost_usd <= old.cost_usd * plan.cost_ratio:
        stops.append((
            f"it costs more: {new.cost_usd:.4f} USD an answer, before {old.cost_usd:.4f} USD",
            "choose a cheaper model, or raise cost_ratio in the next plan",
        ))  # fmt: skip
    return stops


def _on_target(
    plan: Plan,
    target: SliceResult | None,
    slices: tuple[SliceResult, ...],
    worst: tuple[dict[str, Any], ...],
    details: Mapping[str, Any],
) -> Verdict:
    cases = target.cases if target else 0
    gain = target.change.estimate if target else 0.0
    if target and target.p < plan.alpha and gain > 0 and cases >= plan.minimum_cases:
        reason = f"{target.after:.0%} right in {target.name}, before {target.before:.0%} " \
            f"(p = {target.p:.3f}, {cases} cases)"  # fmt: skip
        return Verdict("better", reason, "", plan.hash, slices, worst, 0, details)
    needed = max(plan.minimum_cases, _needed(plan, target))
    if cases < needed and not (target and target.change.high < 0):
        missing = needed - cases
        return Verdict(
            "not_enough_evidence",
            f"{cases} cases in {plan.target} cannot show a gain of {plan.expected_gain:.0%}",
            f"needs {missing} more cases in {plan.target}",
            plan.hash, slices, worst, missing, details,
        )  # fmt: skip
    assert target is not None
    return Verdict(
        "not_better",
        f"no gain is shown in {target.name}: {target.after:.0%} right, before {target.before:.0%} "
        f"(p = {target.p:.3f}, {cases} cases)",
        "more or better examples of the target slice",
        plan.hash, slices, worst, 0, details,
    )  # fmt: skip


def _needed(plan: Plan, target: SliceResult | None) -> int:
    """Return how many cases the expected gain needs, by how often the two models disagree here."""
    discordant = max(0.2, plan.expected_gain)
    if target and target.cases >= plan.minimum_cases:
        width = target.change.high - target.change.low
        seen = (width / 3.92) ** 2 * target.cases + target.change.estimate**2
        discordant = min(1.0, max(plan.expected_gain, seen))
    return needed_cases(plan.expected_gain, discordant=discordant, alpha=plan.alpha)


def _worst_cases(
    cases: Sequence[Case], before: Mapping[str, Result], after: Mapping[str, Result]
) -> tuple[dict[str, Any], ...]:
    """Return the cases that the candidate loses, secrets first, then wrong refusals."""
    lost = [
        case
        for case in cases
        if after[case.id].leaked or (before[case.id].right and not after[case.id].right)
    ]
    lost.sort(key=lambda case: (not after[case.id].leaked, not after[case.id].refused, case.id))
    return tuple(
        {"id": case.id, "slice": case.slice, "before": before[case.id].text,
         "after": after[case.id].text, "refused": after[case.id].refused}
        for case in lost[:_WORST]
    )  # fmt: skip
