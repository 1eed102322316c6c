"""The first tab: what happened, who answered, and what needs attention now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.tab import QUIET, ConsoleTab, complaint
from triptych.panels.gateway_client import GatewayClient, segment

#: How far back one looks, and how finely: seconds in all, seconds a point, what a tick counts.
STRETCHES = {
    "last hour": (3600, 60, "minutes"),
    "last day": (86_400, 3600, "hours"),
    "last week": (7 * 86_400, 4 * 3600, "hours"),
    "last month": (30 * 86_400, 86_400, "days"),
}
PARTS = {"tier_served": "tier", "provider": "provider"}
UPSTREAMS = {
    "name": "upstream",
    "provider": "provider",
    "tiers": "tiers",
    "breaker": "breaker",
    "probe": "real request",
    "revision": "revision",
    "latency_s": "latency",
}


def draw(client: gr.State) -> ConsoleTab:
    """Draw this tab."""
    stretch = gr.Radio(list(STRETCHES), value="last hour", label="Looking at the")
    page = gr.HTML()
    probe = gr.Button("Test all providers", elem_classes="act")
    health = gr.HTML()
    probe.click(_probe_all, client, health, api_visibility="private")
    stretch.change(_load, [client, stretch], page, **QUIET)
    return ConsoleTab(_load, [client, stretch], [page])


async def _load(who: GatewayClient | None, stretch: str) -> str:
    if who is None:
        return ""
    whole_s, bucket_s, _ = STRETCHES[stretch]
    since = time.time() - whole_s
    try:
        totals, buckets, outcomes, *parts = await asyncio.gather(
            who.ask("GET", "/api/usage", since=since),
            who.ask("GET", "/api/usage", since=since, bucket_s=bucket_s),
            who.ask("GET", "/api/usage", since=since, group_by="outcome"),
            *(
                who.ask("GET", "/api/usage", since=since, bucket_s=bucket_s, group_by=by)
                for by in PARTS
            ),
        )
        wrong = await _wrong(who, totals["rows"]) if who.role == "admin" else []
    except TierError as error:
        return complaint(error)
    shares = {name: part["rows"] for name, part in zip(PARTS, parts, strict=True)}
    return _attention(wrong) + _happened(
        stretch, totals["rows"], buckets["rows"], outcomes["rows"], shares
    )


async def _wrong(who: GatewayClient, totals: Sequence[Mapping[str, Any]]) -> list[str]:
    listed, flags = await asyncio.gather(
        who.ask("GET", "/admin/upstreams"), who.ask("GET", "/admin/flags")
    )
    return attention(totals, listed["upstreams"], flags)


def _happened(
    stretch: str,
    totals: Sequence[Mapping[str, Any]],
    buckets: Sequence[Mapping[str, Any]],
    outcomes: Sequence[Mapping[str, Any]],
    shares: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    if not totals or not totals[0]["requests"]:
        return (
            f'<p class="quiet">No request in the {stretch}. Send one to the address above;'
            " any client of OpenAI's API will do.</p>"
        )
    _, bucket_s, unit = STRETCHES[stretch]
    axis = drawing.Axis(time.time(), {"minutes": 60, "hours": 3600, "days": 86_400}[unit], unit)
    charts = drawing.over_time(buckets, axis, bucket_s)
    charts += [
        drawing.share_over_time(f"Share of each {name}", shares[by], by, axis)
        for by, name in PARTS.items()
    ]
    bars = [drawing.shares("By outcome", outcomes, "outcome")]
    bars += [
        drawing.shares(f"By {name}", drawing.summed(shares[by], by), by)
        for by, name in PARTS.items()
    ]
    return (
        drawing.figures(drawing.overview(totals[0]))
        + f'<div class="beside">{"".join(f"<div>{part}</div>" for part in charts)}</div>'
        + f'<div class="beside">{"".join(f"<div>{part}</div>" for part in bars)}</div>'
    )


def attention(
    totals: Sequence[Mapping[str, Any]],
    upstreams: Sequence[Mapping[str, Any]],
    flags: Mapping[str, Any],
) -> list[str]:
    """List what needs attention now, each with a link."""
    found = []
    if not upstreams:
        found.append("no provider yet: add one under Spaces")
    for row in upstreams:
        if row["breaker"] != "closed":
            retry = row["breaker_retry_after_s"] or 0
            found.append(
                f"{row['name']} failed too often and rests for {retry:.0f} s: test it under Spaces"
            )
    if totals and totals[0]["requests"]:
        asked = int(totals[0]["requests"])
        failed, fell = (int(totals[0][name] or 0) for name in ("failures", "fallbacks"))
        if failed / asked > 0.02:
            found.append(
                f"{failed / asked:.0%} of the requests failed: see Requests, outcome failed"
            )
        if fell / asked > 0.1:
            found.append(
                f"{fell / asked:.0%} fell back to another provider: test them under Spaces"
            )
    if flags.get("stale"):
        found.append("the gateway cannot read new flags and keeps the last: check its database")
    found += [f"{key} is killed by the environment" for key in flags.get("killed") or ()]
    return found


def _attention(found: Sequence[str]) -> str:
    if not found:
        return '<p class="quiet">Nothing needs attention.</p>'
    items = "".join(f"<li>{escape(line)}</li>" for line in found)
    return f'<section class="attention"><h2>Needs attention</h2><ul>{items}</ul></section>'


async def _probe_all(who: GatewayClient | None) -> str:
    if who is None:
        return ""
    try:
        upstreams = (await who.ask("GET", "/admin/upstreams"))["upstreams"]
        probes = await asyncio.gather(*(_probe(who, row["name"]) for row in upstreams))
    except TierError as error:
        return complaint(error)
    rows = [
        {**row, "tiers": list(row["models"]), "probe": _verdict(probe),
         "latency_s": probe.get("latency_s"), "revision": probe.get("revision") or row["revision"]}
        for row, probe in zip(upstreams, probes, strict=True)
    ]  # fmt: skip
    return drawing.table(rows, UPSTREAMS, "No provider yet.")


async def _probe(who: GatewayClient, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = await who.ask("POST", f"/admin/upstreams/{segment(name)}/test")
    return answer


def _verdict(probe: Mapping[str, Any]) -> str:
    if probe["ok"]:
        return "answers"
    return f"{probe.get('error_code') or 'fails'}: {probe.get('message') or ''}"[:160]
