"""The view model of the first page: each part of the installation, its state and its next step.

It is read with the visitor's own key: what a visitor may not see at the gateway is not shown here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from triptych.config import environment
from triptych.errors import TierError
from triptych.lm.runs.states import LIVE
from triptych.lm.runs.store import RunStore
from triptych.panels.web.site import Visit
from triptych.wire.tiers import TIERS

_TIMEOUT = aiohttp.ClientTimeout(total=2)
SPACES_FLAG = "provider.hf_spaces"


@dataclass(frozen=True)
class Next:
    """The one next button of a part: a link, or a switch to turn on."""

    label: str
    href: str = ""
    switch: str = ""


@dataclass(frozen=True)
class Part:
    """One line of the state: `mark` is good, warn or bad."""

    name: str
    words: str
    mark: str = "good"
    next: Next | None = None
    command: str = ""
    term: str = ""


@dataclass(frozen=True)
class State:
    """Everything that the first page shows of this installation."""

    parts: tuple[Part, ...]
    answers: bool

    @property
    def complete(self) -> bool:
        """Return whether nothing is missing."""
        return all(part.mark == "good" for part in self.parts)


async def read_state(visit: Visit, hub: str, runs: RunStore) -> State:
    """Return the state of this installation as the visitor may see it."""
    gateway = visit.site.sessions.gateway
    hub_up, gateway_up, models = await asyncio.gather(
        _answers(f"{hub}/api/models?limit=1"),
        _answers(f"{gateway}/health"),
        asyncio.to_thread(_training, runs),
    )
    tiers = await _tiers(visit) if gateway_up else ()
    parts = (
        _server("Hub", hub, hub_up, "Space"),
        _server("Gateway", f"{gateway}/v1", gateway_up, "gateway"),
        models,
        *tiers,
    )
    return State(parts, gateway_up and any(part.name == "base" for part in tiers if not part.next))


def _server(name: str, address: str, answers: bool, term: str) -> Part:
    if answers:
        return Part(name, f"answers at {address}", term=term)
    return Part(name, f"{address} does not answer", "bad", command="triptych up", term=term)


def _training(store: RunStore) -> Part:
    runs = store.list()
    live = sum(run.state in LIVE for run in runs)
    if live:
        words = f"{live} {'run trains' if live == 1 else 'runs train'} now"
        return Part("Training", words, next=Next("Watch", "/studio/"), term="run")
    if not runs:
        words = "No run yet"
        return Part("Training", words, "warn", Next("Train a model", "/studio/"), term="run")
    words = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, none trains now"
    return Part("Training", words, next=Next("Open the Studio", "/studio/"), term="run")


async def _tiers(visit: Visit) -> tuple[Part, ...]:
    """Return the state of the tiers: for an admin with what to switch on."""
    if visit.session is None:
        there = (environment.home() / "gateway.toml").exists()
        words = "set up; sign in to see which answer" if there else "No tiers yet"
        return (Part("Tiers", words, "warn", Next("Sign in", "/sign-in?then=/"), term="tier"),)
    try:
        if visit.session.role != "admin":
            return await _for_members(visit)
        upstreams, flags = await asyncio.gather(
            visit.gateway.ask("GET", "/admin/upstreams"), visit.gateway.ask("GET", "/admin/flags")
        )
    except TierError as error:
        return (Part("Tiers", error.message, "bad", Next("Sign in", "/sign-in?then=/")),)
    on = {flag["key"]: flag["definition"]["defaultVariant"] == "on" for flag in flags["flags"]}
    return tier_parts(upstreams["upstreams"], on)


def tier_parts(upstreams: list[Mapping[str, Any]], on: Mapping[str, bool]) -> tuple[Part, ...]:
    """Return the state of each tier from the gateway's upstreams and switches."""
    if not upstreams:
        create = Next("Create them", "/tiers")
        return (Part("Tiers", "No tiers yet", "warn", create, term="tier"),)
    parts = []
    if not on[SPACES_FLAG] and any(each["provider"] == "hf_spaces" for each in upstreams):
        switch = Next("Switch on", switch=SPACES_FLAG)
        parts.append(Part("Spaces", "Spaces are switched off", "warn", switch, term="Space"))
    for tier in TIERS:
        serving = [each for each in upstreams if tier in each["models"]]
        usable = [each for each in serving if on.get(f"provider.{each['provider']}", False)]
        term = f"{tier} tier"
        if not serving:
            words = "no provider serves this tier"
            parts.append(Part(tier, words, "warn", Next("Add one", "/console/"), term=term))
        elif not on[f"tier.{tier}"]:
            switch = Next("Switch on", switch=f"tier.{tier}")
            parts.append(Part(tier, "this tier is switched off", "warn", switch, term=term))
        elif not usable:
            words = "its only providers are switched off"
            parts.append(Part(tier, words, "warn", Next("Open", "/console/"), term=term))
        else:
            names = ", ".join(each["name"] for each in usable)
            parts.append(Part(tier, f"answers by {names}", term=term))
    return tuple(parts)


async def _for_members(visit: Visit) -> tuple[Part, ...]:
    found = await visit.gateway.ask("POST", "/ofrep/v1/evaluate/flags", {"context": {}})
    on = {flag["key"]: flag["value"] for flag in found["flags"] if "value" in flag}
    return tuple(
        Part(
            tier,
            "switched on" if on.get(f"tier.{tier}") else "switched off; an admin can change that",
            "good" if on.get(f"tier.{tier}") else "warn",
            term=f"{tier} tier",
        )
        for tier in TIERS
    )


async def _answers(address: str) -> bool:
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(address) as got:
            return got.status < 500
    except (aiohttp.ClientError, TimeoutError):
        return False
