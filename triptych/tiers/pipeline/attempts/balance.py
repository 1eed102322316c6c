"""Which of several equal upstreams is asked first: by weight, or the one that answers soonest.

Upstreams are equal that share a `group`. Only their order among themselves changes; whom they
stand before and behind stays as the selector decided. What was measured is this worker's own.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from triptych.tiers.rules.selector import Route

Mode = Literal["weight", "latency"]

#: How much one answer moves the mean.
_SHARE = 0.3
#: After this time a mean counts half, so that one that was slow is tried again.
_HALF_LIFE_S = 60.0
#: What a failure adds to the mean: an upstream that refuses at once is not a fast one.
_FAILED_S = 10.0
#: One that was never measured counts as fast, and its answers under way count all the same.
_LEAST_S = 0.001


@dataclass(slots=True)
class _Measured:
    mean_s: float = 0.0
    at_s: float = 0.0
    running: int = 0


class Balancer:
    """Order equal upstreams, and measure how soon they answer."""

    def __init__(self, mode: Mode, clock: Callable[[], float] = time.monotonic) -> None:
        self._mode = mode
        self._clock = clock
        self._random = random.Random()
        self._measured: defaultdict[tuple[str, bool], _Measured] = defaultdict(_Measured)

    def ordered(self, routes: Sequence[Route], *, stream: bool) -> Sequence[Route]:
        """Return the routes with the members of each group in the order of this moment."""
        places: dict[tuple[str, str, str], list[int]] = {}
        for place, route in enumerate(routes):
            if route.upstream.group:
                key = (route.upstream.group, route.tier, route.name)
                places.setdefault(key, []).append(place)
        if all(len(equal) < 2 for equal in places.values()):
            return routes
        found = list(routes)
        for equal in places.values():
            chosen = sorted((routes[p] for p in equal), key=lambda r: self._cost(r, stream))
            for place, route in zip(equal, chosen, strict=True):
                found[place] = route
        return found

    def _cost(self, route: Route, stream: bool) -> float:
        weight = route.upstream.weight
        if self._mode == "weight":
            # The least of exponential times: each is first as often as its share of the weights.
            return -math.log(1.0 - self._random.random()) / weight
        measured = self._measured[route.upstream.name, stream]
        age_s = self._clock() - measured.at_s
        mean_s = measured.mean_s * 0.5 ** (age_s / _HALF_LIFE_S) if measured.at_s else 0.0
        return max(mean_s, _LEAST_S) * (measured.running + 1) / weight

    def began(self, name: str, *, stream: bool) -> None:
        """Count an attempt that begins."""
        self._measured[name, stream].running += 1

    def ended(self, name: str, seconds: float, *, stream: bool, ok: bool) -> None:
        """Count an attempt's end: a whole answer, a stream's first token, or a failure."""
        measured = self._measured[name, stream]
        measured.running -= 1
        took_s = seconds if ok else seconds + _FAILED_S
        share = _SHARE if measured.at_s else 1.0
        measured.mean_s += share * (took_s - measured.mean_s)
        measured.at_s = self._clock()
