"""A candidate passes only where it is better and nothing else is worse; each stop has a reason."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from triptych.errors import LearningError
from triptych.learning.loop.gate import Case, Measures, Plan, Result, judge

PLAN = Plan(target="corrected")
SAME = Measures(general_bpb=1.10, latency_s=0.5, cost_usd=0.001)


def cases(target: int = 300) -> list[Case]:
    made = [Case(f"t{n}", "corrected") for n in range(target)]
    made += [Case(f"g{n}", "general") for n in range(200)]
    return made + [Case(f"u{n}", "unanswerable", answerable=False) for n in range(100)]


def results(made: list[Case], shares: dict[str, float], seed: int = 0) -> dict[str, Result]:
    """Answer each slice right with a share; a refused unanswerable question is right."""
    rng = random.Random(seed)
    found = {}
    for case in made:
        right = rng.random() < shares[case.slice]
        found[case.id] = Result(right, refused=right and not case.answerable)
    return found


BEFORE = {"corrected": 0.4, "general": 0.7, "unanswerable": 0.9}


def better(made: list[Case], before: dict[str, Result], gain: float = 0.3) -> dict[str, Result]:
    rng = random.Random(1)
    return {
        case.id: Result(True)
        if case.slice == "corrected" and rng.random() < gain
        else before[case.id]
        for case in made
    }


def test_a_candidate_that_is_better_and_loses_nothing_passes() -> None:
    made = cases()
    before = results(made, BEFORE)
    verdict = judge(PLAN, made, before, better(made, before), (SAME, SAME))
    assert verdict.outcome == "better", verdict
    assert verdict.exit_code == 0
    assert verdict.plan_hash == PLAN.hash
    assert "corrected" in verdict.reason


def test_a_model_that_refuses_everything_is_stopped_whatever_its_total() -> None:
    made = cases()
    before = results(made, {**BEFORE, "corrected": 0.05, "general": 0.05, "unanswerable": 0.0})
    after = {case.id: Result(not case.answerable, refused=True) for case in made}
    plan = replace(PLAN, target="unanswerable")
    verdict = judge(plan, made, before, after, (SAME, SAME))
    assert sum(one.right for one in after.values()) > sum(one.right for one in before.values())
    assert verdict.outcome == "not_better"
    assert "refuses 100%" in verdict.reason


def test_a_faster_and_worse_model_is_stopped() -> None:
    made = cases()
    before = results(made, BEFORE)
    after = results(made, {**BEFORE, "corrected": 0.2}, seed=3)
    verdict = judge(PLAN, made, before, after, (SAME, replace(SAME, latency_s=0.1)))
    assert verdict.outcome == "not_better"


def test_a_model_that_repeats_a_secret_is_stopped_first() -> None:
    made = cases()
    before = results(made, BEFORE)
    after = better(made, before)
    after["g0"] = Result(True, leaked=True, text="the code is 4711")
    verdict = judge(PLAN, made, before, after, (SAME, SAME))
    assert verdict.outcome == "not_better"
    assert "secrets" in verdict.reason
    assert verdict.worst[0]["id"] == "g0"


def test_a_loss_in_another_slice_stops_a_gain() -> None:
    made = cases()
    before = results(made, BEFORE)
    after = better(made, before)
    for n in range(0, 200, 8):
        after[f"g{n}"] = Result(False)
    verdict = judge(PLAN, made, before, after, (SAME, SAME))
    assert verdict.outcome == "not_better"
    assert "general" in verdict.reason


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"general_bpb": 1.20}, "forgets"),
        ({"general_bpb": math.nan}, "forgets"),
        ({"latency_s": 0.7}, "slower"),
        ({"latency_s": math.nan}, "slower"),
        ({"cost_usd": 0.01}, "costs"),
        ({"secrets_found": 1}, "secrets"),
    ],
)
def test_each_limit_stops_and_nan_never_passes(change: dict[str, float], word: str) -> None:
    made = cases()
    before = results(made, BEFORE)
    new = replace(SAME, **change)
    verdict = judge(PLAN, made, before, better(made, before), (SAME, new))
    assert verdict.outcome == "not_better"
    assert word in verdict.reason


def test_answering_what_has_no_answer_is_stopped() -> None:
    made = cases()
    before = results(made, BEFORE)
    after = better(made, before)
    for n in range(20):
        after[f"u{n}"] = Result(False, refused=False)
    verdict = judge(PLAN, made, before, after, (SAME, SAME))
    assert "has no answer" in verdict.reason


def test_too_few_cases_say_how_many_are_missing() -> None:
    made = cases(target=40)
    before = results(made, BEFORE)
    verdict = judge(PLAN, made, before, dict(before), (SAME, SAME))
    assert verdict.outcome == "not_enough_evidence"
    assert verdict.exit_code == 4
    assert verdict.needs_cases > 0
    assert str(verdict.needs_cases) in verdict.change


def test_no_gain_with_enough_cases_is_not_better() -> None:
    made = cases(target=1500)
    before = results(made, BEFORE)
    verdict = judge(PLAN, made, before, dict(before), (SAME, SAME))
    assert verdict.outcome == "not_better"
    assert "no gain" in verdict.reason


def test_equal_models_pass_in_at_most_one_run_of_twenty() -> None:
    made = cases()
    passed = 0
    for seed in range(120):
        before = results(made, {**BEFORE, "unanswerable": 1.0}, seed=seed)
        after = dict(before)
        rng = random.Random(seed + 1000)
        for case in made:
            if case.slice == "corrected":
                after[case.id] = Result(rng.random() < BEFORE["corrected"])
        passed += judge(PLAN, made, before, after, (SAME, SAME)).outcome == "better"
    assert passed <= 10


def test_cases_that_one_model_did_not_run_are_an_error() -> None:
    made = cases()
    before = results(made, BEFORE)
    after = dict(before)
    del after["t3"]
    with pytest.raises(LearningError, match="t3"):
        judge(PLAN, made, before, after, (SAME, SAME))
    with pytest.raises(LearningError, match="repeat"):
        judge(PLAN, [*made, made[0]], before, before, (SAME, SAME))


def test_a_plan_with_impossible_limits_is_an_error() -> None:
    with pytest.raises(LearningError):
        Plan(target="corrected", forgetting=math.nan)
    assert Plan(target="a").hash != Plan(target="b").hash
