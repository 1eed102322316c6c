"""Events of repositories, for listeners inside the hub's process.

The Spaces runner listens for commits to rebuild, and for deletions to stop. A listener that
fails is logged and never undoes what happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from triptych.hub.server.repository import Repository

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefChange:
    """A ref moved; an empty id stands for a ref that does not exist."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class Committed:
    """Branches or tags of a repository moved; `by_admin` if an administrator did it."""

    repository: Repository
    changes: tuple[RefChange, ...]
    account: str
    by_admin: bool = False


@dataclass(frozen=True)
class Created:
    """A repository exists now; `options` are the other fields of the request that created it."""

    repository: Repository
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Moved:
    """A repository was renamed; `repository` has the new name."""

    repository: Repository
    old_repo_id: str


@dataclass(frozen=True)
class Deleted:
    """A repository was deleted."""

    repository: Repository


Event = Committed | Created | Moved | Deleted
Listener = Callable[[Event], Awaitable[None]]


class Events:
    """Carry events from request handlers to listeners, each in a task of its own."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, listener: Listener) -> None:
        """Call a coroutine function with every event from now on."""
        self._listeners.append(listener)

    def publish(self, event: Event) -> None:
        """Start telling every listener, and return at once."""
        for listener in self._listeners:
            task = asyncio.ensure_future(listener(event))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def drain(self) -> None:
        """Wait until every listener has heard everything."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a listener of repository events failed", exc_info=task.exception())
