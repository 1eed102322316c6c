"""What a request cost: by tokens where a provider bills tokens, by the time it took elsewhere.

Prices are dated (`prices.toml`, and the configuration above it), and a request is priced with
what held on its day. A Space or a GPU is billed by the hour, asked or not: a request's share is
the time that it kept the machine busy. What has no price is unknown, which is not the same as
free. Beside every cost stands what the reference model would have taken for the same tokens.
"""

from __future__ import annotations

import datetime
import re
import time
import tomllib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from triptych.config.gateway import GatewayConfig
from triptych.errors import ConfigError
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.query import Attempt, Trace, Usage

FORMAT_VERSION = 1
_DAY_S = 86_400
_HOUR_S = 3600.0
_MICRO = 1_000_000
#: How long a request is expected to keep a machine busy, before it is known.
_EXPECTED_S = 5.0
#: Prices that are kept once found, by model and day.
_KEPT = 1024
#: A dated snapshot costs what its family costs: `gpt-5-mini-2025-08-07`.
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
#: Their machine is one's own, and costs nothing unless `hardware` says otherwise.
_OWN = frozenset(("local", "scripted"))


class TokenPrice(NamedTuple):
    """Prices from a day on. Units: US dollars per million tokens, which is micro-dollars each."""

    day: int
    input: float
    output: float


class HourPrice(NamedTuple):
    """A price from a day on. Units: US dollars per hour."""

    day: int
    usd: float


Dated = TypeVar("Dated", TokenPrice, HourPrice)


class Cost(NamedTuple):
    """What a request cost and what the reference model would have cost; None: unknown.

    Units: micro-dollars.
    """

    own: int | None
    reference: int | None


class PriceList:
    """Every price with the day from which it held."""

    def __init__(
        self,
        tokens: Mapping[str, Sequence[TokenPrice]],
        hours: Mapping[str, Sequence[HourPrice]],
        reference_model: str,
        as_of: str = "",
    ) -> None:
        self.tokens = {name: sorted(dated) for name, dated in tokens.items()}
        self.hours = {name: sorted(dated) for name, dated in hours.items()}
        self.reference_model = reference_model
        self.as_of = as_of
        self._held_on: dict[tuple[str, int], TokenPrice | None] = {}

    @classmethod
    def load(cls, config: GatewayConfig) -> PriceList:
        """Read what is published, and put the configuration's own prices above it.

        Raises: ConfigError for a reference model without a price.
        """
        table = tomllib.loads((Path(__file__).parent / "prices.toml").read_text("utf-8"))
        if table["format_version"] != FORMAT_VERSION:
            raise ConfigError("prices.toml is of another version")
        tokens = {
            name: [TokenPrice(_day(row["since"]), row["input"], row["output"]) for row in rows]
            for name, rows in table["tokens"].items()
        }
        hours = {
            name: [HourPrice(_day(row["since"]), row["usd"]) for row in rows]
            for name, rows in table["hours"].items()
        }
        for name, price in config.token_prices.items():
            since = _day(price.since) if price.since else 0
            kept = [row for row in tokens.get(name, ()) if row.day < since]
            own = TokenPrice(since, price.input_usd_per_mtok, price.output_usd_per_mtok)
            tokens[name] = [*kept, own]
        for name, usd in config.hour_prices.items():
            hours[name] = [HourPrice(0, usd)]
        reference = config.reference_model
        if reference and reference not in tokens:
            raise ConfigError(
                f"gateway.reference_model: there is no price for {reference!r}",
                hint=f"enter it under gateway.token_prices, or choose one of {', '.join(tokens)}",
            )
        return cls(tokens, hours, reference, table["as_of"])

    def token_price(self, model: str, day: int) -> TokenPrice | None:
        """Return what a model's tokens cost on a day since 1970."""
        asked = (model, day)
        if asked in self._held_on:
            return self._held_on[asked]
        dated = self.tokens.get(model) or self.tokens.get(_SNAPSHOT.sub("", model))
        if len(self._held_on) >= _KEPT:  # clients choose the names
            self._held_on.clear()
        return self._held_on.setdefault(asked, _held(dated, day))

    def hour_price(self, hardware: str, day: int) -> HourPrice | None:
        """Return what an hour of some hardware cost on a day since 1970."""
        return _held(self.hours.get(hardware), day)

    def of_tokens(self, model: str, usage: Usage, day: int) -> int | None:
        """Price tokens. Units: micro-dollars."""
        price = self.token_price(model, day)
        if price is None or usage.source == "unknown":
            return None
        return round(usage.input_tokens * price.input + usage.output_tokens * price.output)

    def _of_time(self, upstream: Upstream, attempts: Sequence[Attempt], day: int) -> int | None:
        price = self.hour_price(upstream.hardware, day)
        if price is None:
            return None
        busy_s = sum(a.latency_s for a in attempts if a.upstream == upstream.name)
        return round(busy_s * price.usd * _MICRO / _HOUR_S)

    def cost(self, trace: Trace, upstreams: Mapping[str, Upstream], at: float) -> Cost:
        """Price a request that is over: every machine it kept busy, every token it used."""
        day = int(at // _DAY_S)
        reference = self.of_tokens(self.reference_model, trace.usage, day)
        if trace.cached:
            return Cost(0, reference)
        own = 0
        for name in dict.fromkeys(attempt.upstream for attempt in trace.attempts):
            upstream = upstreams.get(name)
            part = None if upstream is None else self._part(upstream, trace, day)
            if part is None:
                return Cost(None, reference)
            own += part
        return Cost(own, reference)

    def _part(self, upstream: Upstream, trace: Trace, day: int) -> int | None:
        """Price what one upstream did. Who bills tokens bills none for what failed."""
        if upstream.hardware:
            return self._of_time(upstream, trace.attempts, day)
        if upstream.provider in _OWN:
            return 0
        if not upstream.external:
            return None
        if upstream.name != trace.upstream:
            return 0
        served = next(a.model for a in reversed(trace.attempts) if a.upstream == upstream.name)
        for model in (trace.model, served):
            if (part := self.of_tokens(model, trace.usage, day)) is not None:
                return part
        return None

    def estimate(self, upstream: Upstream, model: str, usage: Usage) -> int:
        """Return what an upstream would take for what is not used yet.

        Units: micro-dollars.
        """
        day = int(time.time() // _DAY_S)
        if upstream.hardware:
            price = self.hour_price(upstream.hardware, day)
            return round(_EXPECTED_S * price.usd * _MICRO / _HOUR_S) if price else 0
        return (self.of_tokens(model, usage, day) or 0) if upstream.external else 0


def _held(dated: Sequence[Dated] | None, day: int) -> Dated | None:
    if not dated:
        return None
    place = bisect_right([row.day for row in dated], day)
    return dated[place - 1] if place else None


def _day(text: str) -> int:
    try:
        return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days
    except ValueError as error:
        raise ConfigError(f"{text!r} is no date", hint="write it as 2026-11-21") from error
