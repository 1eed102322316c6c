"""The record of every deployment: what was meant to go live where, and how far it came.

One JSON file each, in `deployments/` under the home, rewritten whole at every change of state.
A lock per Space lets one deployment run at a time; one that was killed on the way is known from
a running one by that lock. Left out: carrying a deployment out (`deployments`).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from triptych.config import environment
from triptych.durable import FolderLock, write_atomic
from triptych.errors import StorageError
from triptych.hub.repository import Repo

FORMAT_VERSION = 1
State = Literal["pending", "uploading", "building", "verifying", "live", "failed", "rolled_back"]
FINAL: frozenset[State] = frozenset({"live", "failed", "rolled_back"})


@dataclass(frozen=True)
class Pin:
    """Name a model at one commit."""

    model: str
    revision: str

    def __str__(self) -> str:
        return f"{self.model}@{self.revision}"


@dataclass(frozen=True)
class Change:
    """Record when a deployment entered a state, and why.

    Units: `time_s` is Unix time.
    """

    state: State
    time_s: float
    note: str = ""


@dataclass(frozen=True)
class Deployment:
    """Hold one attempt to make a Space serve a model.

    `previous` is what the Space served before, `app_commit` and `previous_app_commit` are the
    Space's own commits, the same where the app was left alone.
    """

    id: str
    endpoint: str
    space: str
    pin: Pin
    previous: Pin | None
    history: tuple[Change, ...]
    app_commit: str | None = None
    previous_app_commit: str | None = None
    rollback_of: str | None = None

    @property
    def state(self) -> State:
        """Return the state it is in."""
        return self.history[-1].state

    @property
    def seconds(self) -> float:
        """Return how long it took to get to its state."""
        return self.history[-1].time_s - self.history[0].time_s

    def entered(self, state: State, note: str = "") -> Deployment:
        """Return it in another state."""
        return replace(self, history=(*self.history, Change(state, time.time(), note)))

    def record(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {"format_version": FORMAT_VERSION, "state": self.state, **asdict(self)}


class Ledger:
    """Keep the deployments of this home."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or environment.home() / "deployments"

    def begin(
        self,
        endpoint: str,
        space: Repo,
        pin: Pin,
        previous: Pin | None,
        rollback_of: str | None = None,
    ) -> Deployment:
        """Open a new deployment in the state pending."""
        moment = datetime.now(UTC)
        deployment = Deployment(
            id=f"{moment:%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}",
            endpoint=endpoint,
            space=space.repo_id,
            pin=pin,
            previous=previous,
            history=(Change("pending", moment.timestamp()),),
            rollback_of=rollback_of,
        )
        self.write(deployment)
        return deployment

    def write(self, deployment: Deployment) -> None:
        """Save a deployment, whole."""
        text = json.dumps(deployment.record(), indent=2, ensure_ascii=False)
        write_atomic(self.folder / f"{deployment.id}.json", text + "\n")

    def of(self, endpoint: str, space: Repo) -> list[Deployment]:
        """Return the deployments to one Space, newest first."""
        found = [d for d in self._all() if (d.endpoint, d.space) == (endpoint, space.repo_id)]
        return sorted(found, key=lambda d: d.id, reverse=True)

    def live(self, endpoint: str, space: Repo) -> Deployment | None:
        """Return the deployment a Space serves by, as far as this ledger knows."""
        return next((d for d in self.of(endpoint, space) if d.state == "live"), None)

    def lock(self, endpoint: str, space: Repo) -> FolderLock:
        """Return the lock of a Space: one deployment at a time."""
        name = f"{endpoint}/{space.repo_id}".replace("://", "-").replace("/", "-").replace(":", "-")
        return FolderLock(self.folder / "locks" / name)

    def close_interrupted(self, endpoint: str, space: Repo) -> Deployment | None:
        """Mark what a killed process left half-way as failed; the caller holds the lock.

        Returns: the newest of them, whose `previous` is what last served for certain.
        """
        left = [d for d in self.of(endpoint, space) if d.state not in FINAL]
        for deployment in left:
            self.write(deployment.entered("failed", "interrupted"))
        return left[0] if left else None

    def _all(self) -> Iterator[Deployment]:
        for file in self.folder.glob("*.json"):
            yield _decode(file)


def _decode(file: Path) -> Deployment:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("format_version") != FORMAT_VERSION:
            raise ValueError("it has another format")
        values.pop("state")
        history = tuple(Change(**change) for change in values.pop("history"))
        if not history or any(change.state not in get_args(State) for change in history):
            raise ValueError("it has no known state")
        pin, previous = Pin(**values.pop("pin")), values.pop("previous")
        return Deployment(
            pin=pin, previous=Pin(**previous) if previous else None, history=history, **values
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{file} is not a deployment record: {error}", hint="move it away and try again"
        ) from error
