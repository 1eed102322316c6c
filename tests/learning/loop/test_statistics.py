"""The tests behind a promotion are exact, keep their error rates, and find real gains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.learning.loop import statistics
from triptych.learning.loop.statistics import difference_bounds, mcnemar, needed_cases

CHAMPION = 0.60
EVERY, FIRST, LAST = 50, 100, 4000


def promoted(seed: int, gain: float) -> bool:
    """Simulate a rollout that is looked at after every 50 judgements of an arm."""
    rng = np.random.default_rng(seed)
    one = np.cumsum(rng.random(LAST) < CHAMPION)
    two = np.cumsum(rng.random(LAST) < CHAMPION + gain)
    return any(
        difference_bounds((int(one[n - 1]), n), (int(two[n - 1]), n)).low > 0
        for n in range(FIRST, LAST + 1, EVERY)
    )


def test_a_coin_that_falls_ten_times_alike_has_probability_one_in_1024() -> None:
    assert mcnemar(10, 0) == 1 / 1024
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == pytest.approx(0.623, abs=1e-3)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_the_binomial_test(better: int, worse: int) -> None:
    from scipy.stats import binomtest

    if better + worse:
        expected = binomtest(better, better + worse, alternative="greater").pvalue
        assert mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)


def test_published_sample_sizes_are_met() -> None:
    # +5 points need about 500 cases, +10 about 180 where a fifth to a half disagree.
    assert 300 <= needed_cases(0.05, discordant=0.2) <= 600
    assert needed_cases(0.10, discordant=0.2) < needed_cases(0.05, discordant=0.2) / 3
    with pytest.raises(ValueError, match="gain"):
        needed_cases(0.0)


def test_planned_cases_have_the_promised_power() -> None:
    rng = np.random.default_rng(0)
    cases = needed_cases(0.06, discordant=0.2)
    wins = 0
    for _ in range(400):
        draws = rng.random(cases)
        better, worse = int((draws < 0.13).sum()), int(((draws >= 0.13) & (draws < 0.2)).sum())
        wins += mcnemar(better, worse) < 0.05
    assert wins / 400 > 0.72


def test_false_promotions_stay_under_five_percent_however_often_one_looks() -> None:
    assert sum(promoted(seed, 0.0) for seed in range(500)) <= 25


def test_six_points_are_found_within_four_thousand_judgements() -> None:
    assert sum(promoted(seed, 0.06) for seed in range(200)) >= 180


def test_unequal_arms_keep_the_error_rate() -> None:
    false = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        one = np.cumsum(rng.random(4000) < CHAMPION)
        two = np.cumsum(rng.random(210) < CHAMPION)
        false += any(
            difference_bounds((int(one[19 * n - 1]), 19 * n), (int(two[n - 1]), n)).low > 0
            for n in range(20, 210, 5)
        )
    assert false <= 15


def test_looking_often_at_a_fixed_test_would_promote_far_more_often() -> None:
    """Shows that the test above can fail: the naive rule breaks it."""
    false = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        one, two = (np.cumsum(rng.random(LAST) < CHAMPION) for _ in range(2))
        for n in range(FIRST, LAST + 1, EVERY):
            share = (one[n - 1] + two[n - 1]) / (2 * n)
            z = (two[n - 1] - one[n - 1]) / n / math.sqrt(2 * share * (1 - share) / n)
            if z > 1.645:
                false += 1
                break
    assert false > 30


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_bounds_enclose_the_estimate_and_never_leave_the_range(
    a: int, b: int, c: int, d: int
) -> None:
    found = difference_bounds((min(a, b), b), (min(c, d), d))
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    assert not math.isnan(found.low)


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    inside = paired = 0
    for _ in range(500):
        right = int(rng.binomial(80, 0.3))
        found = statistics.wilson(right, 80)
        inside += found.low <= 0.3 <= found.high
        draws = rng.random(150)
        before = [bool(draw < 0.6) for draw in draws]
        after = [bool(0.05 <= draw < 0.75) for draw in draws]
        change = statistics.paired_difference(before, after)
        paired += change.low <= 0.10 <= change.high
    assert inside >= 460
    assert paired >= 460
    assert statistics.paired_difference([], []) == statistics.Interval(0.0, -1.0, 1.0)
