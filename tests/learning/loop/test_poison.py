"""Ratings of one person that say the opposite of what is true promote no model.

The checks of the originals stand where their part is tested: G1 and G2 in `tests/tiers/test_admin`
and `test_feedback`, G3 in `test_datasets`, G4 and G5 in `test_candidates` and `test_schedule`, G6
in `test_spine` and `test_gate`, G7 in `tests/hub/test_publish`, G8 in `tests/hub/test_deployments`,
I2 in `tests/panels/console`, J4 in `test_watch`, D6 in `test_schedule`, `test_corrections` and
`tests/tiers/test_privacy`. Rollouts without traffic, with traffic that stops, with NaN, that fail
while a person is asked: `test_rollout`; copies that are billed: `tests/tiers/test_shadow`.
"""

from __future__ import annotations

import random

import pytest

from triptych.learning.loop.rollout import Arm, Limits, State, decide, follow
from triptych.learning.loop.traffic import Counts

TURNS, REQUESTS, USERS = 25, 400, 50


def poisoned(seed: int, gain: float) -> str:
    """Run one rollout in which one user gives a fifth of the thumbs, all inverted."""
    rng = random.Random(seed)
    state = State("r", "v1", "v2", limits=Limits(shadow_requests=1))
    counts, requests = {"v1": Counts(), "v2": Counts()}, {"v1": 1, "v2": 1}
    for _ in range(TURNS):
        for _ in range(REQUESTS):
            name = "v2" if rng.random() < state.share else "v1"
            requests[name] += 1
            good = rng.random() < (0.6 if name == "v1" else 0.6 + gain)
            if rng.random() < 0.2:
                counts[name].rate("poison", not good)
            else:
                counts[name].rate(f"u{rng.randrange(USERS)}", good)
        rated = {name: one.arm() for name, one in counts.items()}
        arms = [
            Arm(requests[name], good=rated[name].good, rated=rated[name].rated, p95_s=1.0)
            for name in ("v1", "v2")
        ]
        state = follow(state, decide(state, *arms), arms[1])
        if state.is_over:
            break
    return state.stage


@pytest.mark.parametrize("gain", [0.0, -0.06])
def test_f3_a_fifth_of_the_thumbs_inverted_by_one_user_promotes_no_model_in_95_of_100(
    gain: float,
) -> None:
    assert sum(poisoned(seed, gain) == "promoted" for seed in range(100)) <= 5


def test_one_author_is_at_most_a_twentieth_of_what_counts() -> None:
    one = Counts()
    for number in range(1000):
        one.rate(f"u{number % 40}", False)
        one.rate("poison", True)
    assert (one.arm().good, one.arm().rated) == (20, 20 + 40 * 20)
