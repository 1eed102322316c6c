"""The tests by which a candidate is promoted or not: exact for counts, always valid for streams.

`mcnemar` and `paired_difference` compare the same cases answered by two models; `needed_cases` is
planned before a run. `difference_bounds` is a confidence sequence: it may be looked at after every
judgement without raising the false promotion rate. Left out: what a case is and who rated it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """An estimate between two bounds, all as shares between -1 and 1."""

    estimate: float
    low: float
    high: float


def mcnemar(better: int, worse: int) -> float:
    """Return the one-sided exact probability of at least `better` wins among the discordant cases.

    `better` counts the cases that only the candidate answers right, `worse` those that only the
    present model does. Without discordant cases it is 1.

    Raises: ValueError for negative counts.
    Source: McNemar 1947; the exact form is a binomial test with probability one half.
    """
    if better < 0 or worse < 0:
        raise ValueError("counts are not negative")
    total = better + worse
    tail = sum(math.comb(total, wins) for wins in range(better, total + 1))
    return tail / 2**total


def wilson(right: int, cases: int, confidence: float = 0.95) -> Interval:
    """Return the share of right cases with its Wilson interval; without cases all of 0 to 1.

    Source: Wilson 1927.
    """
    if not cases:
        return Interval(0.0, 0.0, 1.0)
    z = _NORMAL.inv_cdf(0.5 + confidence / 2)
    share = right / cases
    centre = (share + z * z / (2 * cases)) / (1 + z * z / cases)
    half = z / (1 + z * z / cases)
    half *= math.sqrt(share * (1 - share) / cases + z * z / (4 * cases * cases))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def paired_difference(
    before: Sequence[bool], after: Sequence[bool], confidence: float = 0.95
) -> Interval:
    """Return how much the share of right cases changed, with the interval of paired cases.

    One case is added to each side of the discordant ones, so that no disagreement at all still
    leaves a width (Agresti and Min 2005).

    Raises: ValueError where the two do not have the same cases.
    """
    if len(before) != len(after):
        raise ValueError("paired cases come in pairs")
    cases = len(before)
    if not cases:
        return Interval(0.0, -1.0, 1.0)
    better = sum(new and not old for old, new in zip(before, after, strict=True))
    worse = sum(old and not new for old, new in zip(before, after, strict=True))
    estimate = (better - worse) / cases
    size, up, down = cases + 2, better + 0.5, worse + 0.5
    centre = (up - down) / size
    spread = math.sqrt(max(0.0, (up + down) / size - centre * centre) / size)
    half = _NORMAL.inv_cdf(0.5 + confidence / 2) * spread
    return Interval(estimate, max(-1.0, centre - half), min(1.0, centre + half))


def needed_cases(
    gain: float, *, discordant: float = 0.2, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Return how many paired cases show a gain with the given power (one-sided McNemar test).

    `discordant` is the share of cases that the two models answer differently.

    Raises: ValueError for a gain that is not between 0 and `discordant`.
    Source: Connor 1987.
    """
    if not 0 < gain <= discordant <= 1:
        raise ValueError("the gain lies above 0 and is at most the share of discordant cases")
    z_alpha, z_power = _NORMAL.inv_cdf(1 - alpha), _NORMAL.inv_cdf(power)
    root = z_alpha * math.sqrt(discordant) + z_power * math.sqrt(discordant - gain * gain)
    return math.ceil((root / gain) ** 2)


def difference_bounds(
    champion: tuple[int, int], challenger: tuple[int, int], alpha: float = 0.05
) -> Interval:
    """Return the challenger's share of good judgements minus the champion's, always valid.

    Each argument is (good, rated). The bounds hold at all times at once with probability
    1 - `alpha` on each side, so one may look after every judgement and stop when satisfied.

    Source: Waudby-Smith et al. 2024 (asymptotic confidence sequences, Robbins' normal mixture),
    applied to the difference with the effective number of judgements n1 n2 / (n1 + n2).
    """
    (good_1, count_1), (good_2, count_2) = champion, challenger
    if min(count_1, count_2) < 1:
        return Interval(0.0, -1.0, 1.0)
    estimate = good_2 / count_2 - good_1 / count_1
    variance = _variance(good_1, count_1) / count_1 + _variance(good_2, count_2) / count_2
    effective = count_1 * count_2 / (count_1 + count_2)
    # Two-sided at twice alpha is alpha on each side.
    level = 2 * alpha
    rho_2 = (-2 * math.log(level) + math.log(-2 * math.log(level)) + 1) / 100
    intrinsic = effective * effective * variance
    grown = intrinsic * rho_2 + 1
    margin = math.sqrt(grown / rho_2 * math.log(grown / level**2)) / effective
    return Interval(estimate, max(-1.0, estimate - margin), min(1.0, estimate + margin))


def _variance(good: int, count: int) -> float:
    """Return the variance of one judgement, never 0: one of each kind is added."""
    share = (good + 1) / (count + 2)
    return share * (1 - share)
