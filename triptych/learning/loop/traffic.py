"""The traffic of a tier: moved by flags, and what the two models did with it.

The traffic of a tier is moved by the flag `challenger.TIER`, sticky by user and audited by the
gateway; `shadow.TIER` sends copies of questions while a rollout is in its shadow stage. A request
belongs to the upstream that was asked first, also where another one answered it in the end: a
challenger that fails is not hidden by the fallback. Left out: deciding (`rollout`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from triptych.errors import LearningError
from triptych.learning.loop.gateway import BLOCKED, Gateway
from triptych.learning.loop.rollout import Arm, State
from triptych.wire.tiers import challenger_of

# One author counts with at most a twentieth of a model's ratings, and never with more than 20, so
# that one person does not decide alone; with 5 where there are few ratings altogether.
FEWEST_OF_ONE_AUTHOR, MOST_OF_ONE_AUTHOR, SHARE_OF_ONE_AUTHOR = 5, 20, 0.05


@dataclass(frozen=True)
class Traffic:
    """The traffic of one tier, or of one company in it."""

    gateway: Gateway
    tier: str
    company: str | None = None

    @property
    def flag(self) -> str:
        """The flag that decides which users the challenger answers."""
        return f"challenger.{self.tier}"

    @property
    def shadow_flag(self) -> str:
        """The flag that sends the challenger copies of questions."""
        return f"shadow.{self.tier}"

    def move(self, state: State) -> None:
        """Set the flags to a rollout's share; where they are so already nothing is written."""
        rules = self._rules(state)
        now = self._now()
        # The share first: going back must not wait for anything.
        for flag, (value, targeting) in rules.items():
            if now[flag] != (value, targeting):
                body = {"value": value, "targeting": targeting}
                self.gateway.call("PUT", f"/admin/flags/{flag}", body)

    def agrees(self, state: State) -> bool:
        """Return whether the gateway serves the share that the rollout's state names.

        False too where the flag is killed by the environment, disabled, or overridden for a user or
        a company: then other users meet the challenger than the rollout counts on.
        """
        return self._now() == self._rules(state)

    def check(self, champion: str, challenger: str) -> None:
        """Check that both upstreams are there and that no other rollout has the flag.

        Raises: LearningError with what to enter.
        """
        found = {
            one["name"]: one for one in self.gateway.call("GET", "/admin/upstreams")["upstreams"]
        }
        for name, model in ((champion, self.tier), (challenger, challenger_of(self.tier))):
            if model not in (found[name]["models"] if name in found else ()):
                offering = [one for one, row in found.items() if model in row["models"]]
                raise LearningError(
                    f"the upstream {name!r} does not offer {model}",
                    hint=f"upstreams that do: {', '.join(offering) or 'none'}; enter one in the "
                    f'Console, or in [gateway.upstreams] with models = {{ "{model}" = ... }}',
                )
        others = [one for one, row in found.items()
                  if challenger_of(self.tier) in row["models"] and one != challenger]  # fmt: skip
        if others:
            raise LearningError(
                f"other upstreams offer {challenger_of(self.tier)} too: {', '.join(others)}",
                hint="take the name from them: users would meet several challengers",
            )
        if self._now()[self.flag] != (False, {}):
            raise LearningError(
                f"the flag {self.flag} is set, overridden or killed",
                hint="let the tier's own upstream serve the promoted model, then set the flag off: "
                f"triptych gateway flags {self.flag}=false; clear its overrides in the Console",
            )

    def observe(self, state: State) -> tuple[Arm, Arm]:
        """Return what the champion and the challenger did since the rollout began."""
        seen = {state.champion: Counts(), state.challenger: Counts()}
        arm_of: dict[str, str] = {}
        for row in self.gateway.requests(state.started_at, self.company):
            name = self._asked_first(row, state)
            if name in seen:
                arm_of[row["request_id"]] = name
                seen[name].add(row, name)
        for row in self.gateway.shadows(self.tier, state.started_at):
            if row["upstream"] == state.challenger:
                seen[state.challenger].add_copy(row)
                if not row["error_code"]:
                    seen[state.champion].compare(row["served_refused"])
        ratings = self.gateway.feedback(state.started_at, self.company)
        for author, name, good in _ratings(ratings, arm_of):
            seen[name].rate(author, good)
        return seen[state.champion].arm(), seen[state.challenger].arm()

    def _asked_first(self, row: dict[str, Any], state: State) -> str:
        """Return the upstream a request counts for; empty for a request of another tier."""
        by_name = row["tier_asked"] == "named" and row["upstream"] == state.challenger
        if row["tier_served"] not in (self.tier, None) and not by_name:
            return ""
        if row["fallback_reason"] == "breaker_open" and row["upstream"] == state.champion:
            return state.challenger  # it failed so often that it is no longer asked
        if row["attempts"] > 1 or row["upstream"] is None:
            tries = self.gateway.call("GET", f"/api/requests/{row['request_id']}")["tries"]
            return str(tries[0]["upstream"]) if tries else ""
        return str(row["upstream"])

    def _rules(self, state: State) -> dict[str, tuple[bool, Any]]:
        """Return what each flag of the rollout has to be."""
        shadow: tuple[bool, Any] = (state.stage == "shadow", {})
        if shadow[0] and self.company is not None:
            shadow = False, {"if": [{"==": [{"var": "company_id"}, self.company]}, "on", "off"]}
        return {self.flag: self._rule(state), self.shadow_flag: shadow}

    def _rule(self, state: State) -> tuple[bool, Any]:
        """Return the flag's value and targeting: by users, inside the company where one is set."""
        if state.stage == "promoted" and self.company is None:
            return True, {}
        if state.stage not in ("live", "promoted"):
            return False, {}
        on = round(state.share * 10_000)
        who = {"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]}
        share: Any = {"fractional": [who, ["on", on], ["off", 10_000 - on]]}
        rule: Any = {"if": [{"var": "targetingKey"}, share, "off"]}
        if state.stage == "promoted":
            rule = "on"
        if self.company is not None:
            rule = {"if": [{"==": [{"var": "company_id"}, self.company]}, rule, "off"]}
        return False, rule

    def _now(self) -> dict[str, tuple[bool, Any] | None]:
        """Return value and targeting of both flags; None where something stands above them."""
        found = self.gateway.call("GET", "/admin/flags")
        flags = {one["key"]: one for one in found["flags"]}
        now: dict[str, tuple[bool, Any] | None] = {}
        for key in (self.flag, self.shadow_flag):
            if key not in flags:
                raise LearningError(f"the gateway has no flag {key}", hint="update the gateway")
            one = flags[key]
            rule = one["definition"]
            if key in found["killed"] or rule["state"] != "ENABLED" or one["overrides"]:
                now[key] = None
            else:
                now[key] = rule["defaultVariant"] == "on", rule.get("targeting") or {}
        return now


def _ratings(
    rows: Iterator[dict[str, Any]], arm_of: dict[str, str]
) -> Iterator[tuple[str, str, bool]]:
    """Yield author, upstream and whether it was good; one for an author and a request.

    A correction is no good answer, and stands above a thumb of the same author.
    """
    found: dict[tuple[str, str], tuple[float, bool]] = {}
    for row in rows:
        name = arm_of.get(str(row["request_id"]))
        bad = row["kind"] == "correction" or row["label"] == "negative"
        if name is None or not (bad or row["label"] == "positive"):
            continue
        key = (str(row["author"]), str(row["request_id"]))
        _, good = found.get(key, (0.0, True))
        found[key] = (float(row["created_at"]), good and not bad)
    for (author, request_id), (_, good) in sorted(found.items(), key=lambda item: item[1][0]):
        yield author, arm_of[request_id], good


@dataclass
class Counts:
    """Count what one upstream did."""

    requests: int = 0
    errors: int = 0
    secrets: int = 0
    refusals: int = 0
    compared: int = 0
    latencies: list[float] = field(default_factory=list)
    ratings: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def add(self, row: dict[str, Any], name: str) -> None:
        """Count a request; what the gateway refused or lost itself says nothing of the model."""
        if row["cached"] or row["outcome"] in ("refused", "interrupted"):
            return
        self.requests += 1
        self.secrets += row["outcome"] == "blocked"
        fell_back = row["upstream"] != name
        self.errors += fell_back or row["outcome"] == "failed"
        if row["outcome"] == "ok" and not fell_back and row["latency_s"] is not None:
            self.latencies.append(float(row["latency_s"]))

    def add_copy(self, row: dict[str, Any]) -> None:
        """Count a shadow copy."""
        self.requests += 1
        self.secrets += row["error_code"] == BLOCKED
        self.errors += row["error_code"] not in ("", BLOCKED)
        if not row["error_code"]:
            self.latencies.append(float(row["latency_s"]))
            self.compare(row["refused"])

    def compare(self, refused: bool) -> None:
        """Count a question that both models answered."""
        self.compared += 1
        self.refusals += refused

    def rate(self, author: str, good: bool) -> None:
        """Count a rating; `arm` leaves out what its author gave beyond the limit."""
        self.ratings[author].append(good)

    def arm(self) -> Arm:
        """Return the counts as the controller takes them."""
        given = sum(map(len, self.ratings.values()))
        most = max(FEWEST_OF_ONE_AUTHOR, int(given * SHARE_OF_ONE_AUTHOR))
        most = min(MOST_OF_ONE_AUTHOR, most)
        counted = [good for goods in self.ratings.values() for good in goods[:most]]
        times = sorted(self.latencies)
        p95_s = times[math.ceil(0.95 * len(times)) - 1] if times else math.nan
        return Arm(
            self.requests, self.errors, sum(counted), len(counted), self.refusals, self.compared,
            self.secrets, p95_s,
        )  # fmt: skip
