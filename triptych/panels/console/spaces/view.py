"""The view model of the Spaces: what each one does, and what a deployment would change.

Which Spaces answer for the tiers is known by the gateway; what a Space runs, by the hub.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from triptych.errors import TriptychError
from triptych.hub.client import Hub
from triptych.hub.deployments import MODEL, VERSION
from triptych.hub.ledger import Ledger
from triptych.hub.repository import Repo, split_revision
from triptych.panels.console.times import when
from triptych.panels.web.tables import Row, Table

PAGE = "/console/spaces"
_LINES = 200
_MARKS = {"RUNNING": "good", "RUNTIME_ERROR": "bad", "BUILD_ERROR": "bad", "CONFIG_ERROR": "bad"}


@dataclass(frozen=True)
class Space:
    """One Space: the tiers that it serves, its stage, its model, and what it says itself."""

    name: str
    tiers: str = ""
    stage: str = ""
    mark: str = ""
    pinned: str = ""
    answers_with: str = ""
    hardware: str = ""
    error: str = ""

    @property
    def href(self) -> str:
        """Return the address of its page."""
        return f"{PAGE}/{self.name}"

    @property
    def runs(self) -> bool:
        """Return whether it answers requests now."""
        return self.stage.startswith("RUNNING")


@dataclass(frozen=True)
class Deployed:
    """What was deployed to one Space, and what it served before."""

    table: Table
    previous: str


def known(upstreams: Sequence[Mapping[str, Any]], hub: Hub) -> dict[str, str]:
    """Return every Space of the gateway's providers with its tiers, and the owner's other ones."""
    names = {
        str(row["address"]): ", ".join(row["models"])
        for row in upstreams
        if row["provider"] == "hf_spaces" and "://" not in row["address"]
    }
    owners = {name.partition("/")[0] for name in names}
    with suppress(TriptychError):  # a hub without a token lists what the gateway names only
        owners.add(hub.whoami())
    for owner in sorted(owners):
        with suppress(TriptychError):
            names |= {name: "" for name in hub.spaces(owner) if name not in names}
    return names


async def read_all(upstreams: Sequence[Mapping[str, Any]], hub: Hub) -> list[Space]:
    """Return the state of every Space."""
    names = await asyncio.to_thread(known, upstreams, hub)
    found = await asyncio.gather(*(asyncio.to_thread(read_one, hub, name) for name in names))
    return [replace(space, tiers=names[space.name]) for space in found]


def read_one(hub: Hub, name: str) -> Space:
    """Return what the hub says of a Space, and what the Space says itself."""
    repo = Repo.parse(name, "space")
    try:
        state = hub.space(repo)
        pinned = pinned_model(hub, repo)
    except TriptychError as error:
        return Space(name, stage="not read", mark="bad", error=error.message)
    answer = hub.ask_space(state, "/health") if state.stage.startswith("RUNNING") else None
    return Space(
        name, "", state.stage, _MARKS.get(state.stage, "warn"), pinned,
        str((answer or {}).get("revision") or "")[:12], state.hardware or "", state.error or "",
    )  # fmt: skip


def pinned_model(hub: Hub, space: Repo) -> str:
    """Return what a Space is configured to serve, as `model@revision`."""
    variables = hub.variables(space)
    return "@".join(variables[name][0] for name in (MODEL, VERSION) if name in variables)


def deployed(hub: Hub, name: str) -> Deployed:
    """Return the last deployments to a Space."""
    space, ledger = Repo.parse(name, "space"), Ledger()
    live = ledger.live(hub.endpoint, space)
    rows = tuple(
        Row((each.state.replace("_", " "), f"{each.pin.model}@{each.pin.revision[:12]}",
             when(each.history[-1].time_s), each.history[-1].note),
            mark={"live": "good", "failed": "bad"}.get(each.state, ""))
        for each in ledger.of(hub.endpoint, space)[:8]
    )  # fmt: skip
    table = Table("Deployments", ("State", "Model", "Since", "Note"), rows,
                  empty="Nothing was deployed from here yet.", stack=True)  # fmt: skip
    return Deployed(table, str(live.previous) if live and live.previous else "")


def foresee(hub: Hub, name: str, reference: str) -> tuple[str, str]:
    """Return the exact model that a deployment would serve, and what it changes, in words.

    Raises: HubError where it cannot be found.
    """
    repo_id, revision = split_revision(reference)
    commit = hub.head(Repo.parse(repo_id), revision)
    now, exact = pinned_model(hub, Repo.parse(name, "space")), f"{repo_id}@{commit}"
    if now == exact:
        return exact, f"{name} serves {exact} already; deploying it again only verifies it."
    return exact, (
        f"{name} serves {now or 'no model'}. It will serve {exact} as soon as it answers with it"
        " itself; until then, and if that fails, it serves what it serves now."
    )


def log_lines(hub: Hub, name: str, build: bool) -> str:
    """Return the last lines of a Space's log."""
    lines = deque(hub.logs(Repo.parse(name, "space"), build=build), maxlen=_LINES)
    return "\n".join(lines)
