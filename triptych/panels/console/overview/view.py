"""The view model of the Overview: figures, charts with gaps, and what needs attention and why."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from triptych.formatting import format_count
from triptych.panels.console.words import KINDS, cause
from triptych.panels.gateway_client import GatewayClient
from triptych.panels.web.charts import Chart, Curve
from triptych.panels.web.tables import Row, Table

#: Failed requests whose cause is counted; more would only repeat it.
_READ = 200
REFRESH_S = 5.0
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Range:
    """How far back the page reaches, and how finely. Units: seconds."""

    name: str
    words: str
    whole_s: int
    bucket_s: int

    @property
    def bucket(self) -> str:
        """Return how long one point of a chart is, in words."""
        spans = {60: "minute", 3600: "hour", 86_400: "day"}
        return spans.get(self.bucket_s, f"{self.bucket_s // 3600} hours")


RANGES = {
    each.name: each
    for each in (
        Range("hour", "Last hour", 3600, 60),
        Range("day", "Last day", 86_400, 3600),
        Range("week", "Last week", 7 * 86_400, 4 * 3600),
        Range("month", "Last month", 30 * 86_400, 86_400),
    )
}


@dataclass(frozen=True)
class Attention:
    """One thing that needs attention: what, why, and the page that mends it."""

    words: str
    label: str
    href: str


@dataclass(frozen=True)
class Now:
    """What is read again every few seconds."""

    attention: tuple[Attention, ...]
    figures: Mapping[str, str]
    shares: tuple[Table, ...]


async def read_now(gateway: GatewayClient, span: Range, role: str) -> Now:
    """Return the figures, their shares and what needs attention."""
    since = time.time() - span.whole_s
    totals, outcomes, tiers, providers, failed = await asyncio.gather(
        _usage(gateway, since),
        _usage(gateway, since, group_by="outcome"),
        _usage(gateway, since, group_by="tier_served"),
        _usage(gateway, since, group_by="provider"),
        gateway.ask("GET", "/api/requests", outcome="failed", since=since, limit=_READ),
    )
    upstreams: Rows = ()
    flags: Mapping[str, Any] = {}
    if role == "admin":
        upstreams, flags = await _service(gateway)
    kinds = {str(row["provider"]) for row in upstreams} if role == "admin" else None
    attention = failures(totals, failed["requests"], kinds)
    if role == "admin":
        attention += service(totals, upstreams, flags)
    shares = (
        share_table("Requests by outcome", outcomes, "outcome"),
        share_table("Requests by tier", tiers, "tier_served"),
        share_table("Requests by kind of provider", providers, "provider"),
    )
    return Now(tuple(attention), figures(totals), shares)


async def _service(gateway: GatewayClient) -> tuple[Rows, Mapping[str, Any]]:
    found: tuple[Any, Any] = await asyncio.gather(
        gateway.ask("GET", "/admin/upstreams"), gateway.ask("GET", "/admin/flags")
    )
    return found[0]["upstreams"], found[1]


async def read_charts(gateway: GatewayClient, span: Range) -> tuple[Chart, ...]:
    """Return every chart of the page."""
    since = time.time() - span.whole_s
    whole, tiers, providers = await asyncio.gather(
        _usage(gateway, since, bucket_s=span.bucket_s),
        _usage(gateway, since, bucket_s=span.bucket_s, group_by="tier_served"),
        _usage(gateway, since, bucket_s=span.bucket_s, group_by="provider"),
    )
    return charts(whole, tiers, providers, span, since, time.time())


async def _usage(gateway: GatewayClient, since: float, **query: str | float) -> Rows:
    rows: Rows = (await gateway.ask("GET", "/api/usage", since=since, **query))["rows"]
    return rows


def figures(totals: Rows) -> dict[str, str]:
    """Return the few numbers of a range in which there were requests."""
    row = totals[0] if totals else {}
    requests = int(row.get("requests") or 0)
    if not requests:
        return {}
    failed = int(row.get("failures") or 0)
    shown = {
        "Requests": f"{requests:,}",
        "Failed": f"{failed:,} ({failed / requests:.1%})",
        "Fallback used": f"{int(row.get('fallbacks') or 0) / requests:.1%}",
        "Tokens in": format_count(float(row.get("input_tokens") or 0)),
        "Tokens out": format_count(float(row.get("output_tokens") or 0)),
        "Cost": f"${int(row.get('cost_microusd') or 0) / 1e6:,.2f}",
    }
    if row.get("latency_mean_s") is not None:
        shown["Mean latency"] = f"{float(row['latency_mean_s']) * 1000:,.0f} ms"
    return shown


def failures(totals: Rows, failed: Rows, configured: Collection[str] | None) -> list[Attention]:
    """Return how many requests failed and why, the most frequent cause first.

    `configured` are the kinds of provider that were added; None: not known to this visitor.
    """
    requests = int(totals[0]["requests"]) if totals else 0
    whole = int(totals[0]["failures"] or 0) if totals else 0
    if not requests or whole / requests <= 0.02 or not failed:
        return []
    counted = Counter((cause(row, configured), str(row.get("error_code") or "")) for row in failed)
    found = []
    for (why, code), number in counted.most_common(3):
        share = round(whole * number / len(failed))
        words = f"{share:,} of {requests:,} requests failed: {why or 'no cause was recorded'}"
        if code == "no_provider_available":
            found.append(Attention(words, "Open Switches", "/console/switches"))
        else:
            query = urlencode({"outcome": "failed", "error_code": code})
            found.append(Attention(words, "See the requests", f"/console/requests?{query}"))
    return found


def service(totals: Rows, upstreams: Rows, flags: Mapping[str, Any]) -> list[Attention]:
    """Return what is wrong with the service itself, for its admin."""
    found = []
    if not upstreams:
        found.append(Attention("No provider yet", "Add one", "/console/providers"))
    for row in upstreams:
        if row["breaker"] != "closed":
            retry = row["breaker_retry_after_s"] or 0
            words = f"{row['name']} failed too often and is paused for {retry:.0f} s"
            found.append(Attention(words, "Test it", "/console/providers"))
    requests = int(totals[0]["requests"]) if totals else 0
    if requests and int(totals[0]["fallbacks"] or 0) / requests > 0.1:
        share = int(totals[0]["fallbacks"]) / requests
        words = f"{share:.0%} of the requests used the fallback"
        found.append(Attention(words, "Test the providers", "/console/providers"))
    if flags.get("stale"):
        words = "The gateway cannot read new switches and keeps the last: check its database"
        found.append(Attention(words, "Open Switches", "/console/switches"))
    for key in flags.get("killed") or ():
        words = f"{key} is switched off by the environment (TRIPTYCH_KILL)"
        found.append(Attention(words, "Open Switches", "/console/switches"))
    return found


def charts(
    whole: Rows, tiers: Rows, providers: Rows, span: Range, since: float, now: float
) -> tuple[Chart, ...]:
    """Return the charts; a time without requests is a gap where nothing was measured."""
    first = int(since // span.bucket_s) * span.bucket_s
    # The minute that is not over yet would look like a fall; a day that is not over is wanted.
    end = int(now) + 1 - (span.bucket_s if span.bucket_s == 60 else 0)
    xs = tuple(float(x) for x in range(first, end, span.bucket_s))
    rows = {float(row["bucket"]): row for row in whole}

    def curve(name: str, column: str, scale: float = 1.0, missing: float | None = None) -> Curve:
        values = (rows[x][column] if x in rows else missing for x in xs)
        return Curve(name, xs, tuple(None if y is None else float(y) * scale for y in values))

    def chart(place: int, title: str, curves: tuple[Curve, ...], unit: str = "") -> Chart:
        source = f"/console/chart/{place}?range={span.name}"
        return Chart(title, curves, "time", unit, time=True, source=source, refresh_s=REFRESH_S)

    return (
        chart(0, f"Requests per {span.bucket}",
              (curve("requests", "requests", missing=0), curve("failed", "failures", missing=0))),
        chart(1, "Mean latency", (curve("whole request", "latency_mean_s", 1e3),
                                  curve("gateway overhead", "overhead_mean_s", 1e3)), " ms"),
        chart(2, "Tokens", (curve("in", "input_tokens", missing=0),
                            curve("out", "output_tokens", missing=0))),
        chart(3, "Cost", (curve("cost", "cost_microusd", 1e-6, 0),), " $"),
        chart(4, "Share of each tier", _shares(tiers, "tier_served", xs, rows), "%"),
        chart(5, "Share of each kind of provider", _shares(providers, "provider", xs, rows), "%"),
    )  # fmt: skip


def _shares(
    grouped: Rows, by: str, xs: tuple[float, ...], whole: Mapping[float, Mapping[str, Any]]
) -> tuple[Curve, ...]:
    """Return the share of each one in percent: 0 where only others answered, else a gap."""
    counted = {(float(row["bucket"]), _named(by, row[by])): int(row["requests"]) for row in grouped}
    names = dict.fromkeys(name for _, name in counted)
    return tuple(
        Curve(name, xs, tuple(
            100 * counted.get((x, name), 0) / whole[x]["requests"] if x in whole else None
            for x in xs
        ))
        for name in names
    )  # fmt: skip


def share_table(title: str, rows: Rows, by: str) -> Table:
    """Return how requests divide, the largest part first."""
    whole = sum(int(row["requests"]) for row in rows)
    ordered = sorted(rows, key=lambda row: -int(row["requests"]))
    return Table(
        title, (title.rpartition(" by ")[2].capitalize(), "Requests", "Share"),
        tuple(Row((_named(by, row[by]), int(row["requests"]), f"{row['requests'] / whole:.0%}"))
              for row in ordered),
        numbers=frozenset({1, 2}),
    )  # fmt: skip


def _named(by: str, value: Any) -> str:
    if not value:
        return "not answered"
    return KINDS.get(str(value), str(value)) if by == "provider" else str(value)
