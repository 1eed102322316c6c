"""A rollout goes on only with evidence, goes back by itself, and survives a kill at any moment."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triptych.errors import LearningError
from triptych.learning.loop import rollout
from triptych.learning.loop.rollout import Arm, Limits, Rollout, State, decide

FINE = Arm(requests=500, good=60, rated=100, refusals=5, compared=100, p95_s=1.0)
QUICK = Limits(shadow_requests=10, stage_requests=20, minimum_rated=20)


class Traffic:
    """Remember what share the gateway was told to give."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def __call__(self, state: State) -> None:
        self.shares.append(state.share)


def begun(folder: Path, traffic: Traffic, limits: Limits = QUICK) -> Rollout:
    return Rollout.begin(folder, traffic, "v1", "v2", limits)


def simulated(seed: int, gain: float, limits: Limits | None = None) -> str:
    """Run one rollout over simulated users until it is over; ratings come with every request."""
    rng = np.random.default_rng(seed)
    state = State("r", "v1", "v2", limits=limits or Limits())
    counts = {"v1": [0, 0], "v2": [0, 0]}
    shadow = 0
    while not state.is_over:
        size = 200
        if state.stage == "shadow":
            shadow += size
        else:
            taken = int(rng.binomial(size, state.share))
            for name, n, share in (("v1", size - taken, 0.6), ("v2", taken, 0.6 + gain)):
                counts[name][0] += int(rng.binomial(n, share))
                counts[name][1] += n
        one = Arm(counts["v1"][1] + shadow, 0, *counts["v1"], p95_s=1.0)
        two = Arm(counts["v2"][1] + shadow, 0, *counts["v2"], p95_s=1.0)
        state = rollout.follow(state, decide(state, one, two), two)
    return state.stage


BETTER = [
    (
        Arm(requests=1000 * step, good=500 * step, rated=1000 * step, p95_s=1.0),
        Arm(requests=1000 * step, good=800 * step, rated=1000 * step, p95_s=1.0),
    )
    for step in range(1, 5)
]


def to_the_end(one: Rollout) -> None:
    for arms in BETTER:
        one.advance(*arms)


def test_a_a_rollouts_promote_at_most_one_in_twenty() -> None:
    assert sum(simulated(seed, 0.0) == "promoted" for seed in range(500)) <= 25


def test_a_gain_of_six_points_is_promoted_nine_times_in_ten() -> None:
    assert sum(simulated(seed, 0.06) == "promoted" for seed in range(200)) >= 180


def test_a_loss_goes_back() -> None:
    assert {simulated(seed, -0.08) for seed in range(40)} == {"rolled_back"}


def test_without_traffic_nothing_happens_and_the_page_says_what_is_missing(tmp_path: Path) -> None:
    traffic = Traffic()
    one = begun(tmp_path, traffic)
    decision = one.advance(Arm(), Arm())
    assert decision.action == "wait"
    assert decision.needs == 10
    assert "needs 10 more requests" in one.state.reason
    assert traffic.shares == [0.0]


def test_traffic_that_stops_is_no_reason_to_go_on(tmp_path: Path) -> None:
    one = begun(tmp_path, Traffic())
    one.advance(FINE, FINE)
    assert one.state.share == 0.05
    stopped = replace(FINE, p95_s=math.nan, good=100)
    for _ in range(5):
        assert one.advance(replace(FINE, p95_s=math.nan), stopped).action == "wait"
    assert one.state.share == 0.05


@pytest.mark.parametrize(
    ("challenger", "word"),
    [
        (replace(FINE, secrets=1), "secrets"),
        (replace(FINE, refusals=80), "refuses"),
        (replace(FINE, errors=60), "failed"),
        (replace(FINE, p95_s=1.5), "slower"),
        (replace(FINE, good=10), "worse"),
    ],
)
@pytest.mark.parametrize("held", [False, True])
def test_failures_go_back_even_while_a_person_is_waited_for(
    tmp_path: Path, challenger: Arm, word: str, held: bool
) -> None:
    traffic = Traffic()
    one = begun(tmp_path, traffic)
    one.advance(FINE, replace(FINE, rated=0, good=0))
    one.hold(held)
    assert one.advance(replace(FINE, rated=300, good=200), challenger).action == "roll_back"
    assert word in one.state.reason
    assert traffic.shares[-1] == 0.0


def test_a_step_that_needs_approval_waits_for_it(tmp_path: Path) -> None:
    one = begun(tmp_path, Traffic(), replace(QUICK, approve=True))
    assert "approval" in one.advance(FINE, FINE).reason
    one.approve()
    assert one.advance(FINE, FINE).action == "advance"
    assert one.advance(FINE, replace(FINE, requests=1000)).action == "wait"


def test_back_by_hand_takes_a_promoted_model_back_too(tmp_path: Path) -> None:
    traffic = Traffic()
    one = begun(tmp_path, traffic)
    to_the_end(one)
    assert one.state.stage == "promoted"
    assert traffic.shares == [0.0, 0.05, 0.25, 0.5, 1.0]
    assert traffic.shares[-1] == 1.0
    one.back()
    assert traffic.shares[-1] == 0.0
    with pytest.raises(LearningError, match="format"):
        (tmp_path / rollout.STATE_FILE).write_text('{"format": 99}')
        Rollout(tmp_path, traffic)


def test_two_rollouts_of_one_tier_cannot_run_at_once(tmp_path: Path) -> None:
    begun(tmp_path, Traffic())
    with pytest.raises(LearningError, match="under way"):
        begun(tmp_path, Traffic())


def test_a_kill_at_any_write_leaves_a_true_state_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write and every move of traffic is once the last thing that happens."""

    class Killed(BaseException):
        pass

    for fatal in range(20):
        folder = tmp_path / str(fatal)
        real: list[float] = [0.0]
        left = [fatal]

        def count(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Killed

        def move(state: State, real: list[float] = real, count=count) -> None:  # type: ignore[no-untyped-def]
            count()
            real[0] = state.share
            count()

        write = rollout._write

        def writing(place: Path, state: State, count=count, write=write) -> None:  # type: ignore[no-untyped-def]
            count()
            write(place, state)

        with monkeypatch.context() as patch:
            patch.setattr(rollout, "_write", writing)
            try:
                one = Rollout.begin(folder, move, "v1", "v2", QUICK)
                to_the_end(one)
            except Killed:
                pass
        left[0] = 10_000
        if not (folder / rollout.STATE_FILE).exists():
            continue
        again = Rollout(folder, move)
        assert real[0] == again.state.share, fatal
        to_the_end(again)
        assert again.state.stage == "promoted"
        assert real[0] == 1.0


def test_every_decision_can_be_computed_again_from_the_record(tmp_path: Path) -> None:
    one = begun(tmp_path, Traffic())
    for arms in ((Arm(), Arm()), (FINE, FINE), (FINE, replace(FINE, secrets=2))):
        one.advance(*arms)
    state = State(one.state.id, "v1", "v2", limits=QUICK)
    for line in (tmp_path / rollout.LOG_FILE).read_text().splitlines():
        record = json.loads(line)
        arms = [Arm(**{**arm, "p95_s": arm["p95_s"] or math.nan}) for arm in record["arms"]]
        decision = decide(state, *arms)
        assert decision.action == record["decision"]["action"]
        state = rollout.follow(state, decision, arms[1])
        assert state.stage == record["state"]["stage"]
    assert state.stage == "rolled_back"
