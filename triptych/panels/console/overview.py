"""The room one looks into first: the last hour, who answered, and what needs attention now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from triptych.errors import TierError
from triptych.panels.console import drawing
from triptych.panels.console.client import GatewayClient, segment
from triptych.panels.console.room import Room, complaint

PARTS = {"tier_served": "By tier", "provider": "By provider", "outcome": "By outcome"}
UPSTREAMS = {
    "name": "upstream",
    "provider": "provider",
    "tiers": "tiers",
    "breaker": "breaker",
    "probe": "real request",
    "revision": "revision",
    "latency_s": "latency",
}


def draw(client: gr.State) -> Room:
    """Draw the room."""
    page = gr.HTML()
    probe = gr.Button("Ask every provider now", elem_classes="act")
    health = gr.HTML()
    probe.click(_probe_all, client, health, api_visibility="private")
    return Room(_load, [client], [page])


async def _load(who: GatewayClient | None) -> str:
    if who is None:
        return ""
    try:
        totals, buckets, *parts = await asyncio.gather(
            who.ask("GET", "/api/usage"),
            who.ask("GET", "/api/usage", bucket_s=60),
            *(who.ask("GET", "/api/usage", group_by=by) for by in PARTS),
        )
        listed: dict[str, Any] = {"upstreams": []}
        flags: dict[str, Any] = {}
        if who.role == "admin":
            listed, flags = await asyncio.gather(
                who.ask("GET", "/admin/upstreams"), who.ask("GET", "/admin/flags")
            )
    except TierError as error:
        return complaint(error)
    wrong = attention(totals["rows"], listed["upstreams"], flags) if who.role == "admin" else []
    shares = "".join(
        f"<div>{drawing.shares(title, part['rows'], by)}</div>"
        for (by, title), part in zip(PARTS.items(), parts, strict=True)
    )
    return (
        _attention(wrong)
        + drawing.overview(totals["rows"], buckets["rows"])
        + f'<div class="beside">{shares}</div>'
    )


def attention(
    totals: Sequence[Mapping[str, Any]],
    upstreams: Sequence[Mapping[str, Any]],
    flags: Mapping[str, Any],
) -> list[str]:
    """List what somebody should look at now, each with where to go."""
    found = []
    if not upstreams:
        found.append("nobody answers yet: enter an address under Spaces")
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
                f"{failed / asked:.0%} of the last hour's requests failed:"
                " see Requests, outcome failed"
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
    return f'<section class="attention"><h3>Needs attention</h3><ul>{items}</ul></section>'


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
    return drawing.table(rows, UPSTREAMS, "Nobody to ask yet.")


async def _probe(who: GatewayClient, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = await who.ask("POST", f"/admin/upstreams/{segment(name)}/test")
    return answer


def _verdict(probe: Mapping[str, Any]) -> str:
    if probe["ok"]:
        return "answers"
    return f"{probe.get('error_code') or 'fails'}: {probe.get('message') or ''}"[:160]
