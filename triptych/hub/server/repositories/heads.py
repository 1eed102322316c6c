"""What follows when refs move: the catalogue learns the new head, listeners hear of it.

Git is the truth; the catalogue keeps a copy of what lists and searches need. A crash between
the two is repaired at the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pygit2

from triptych.hub.server.events import Committed, RefChange
from triptych.hub.server.repositories import cards, catalog
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.git.reading import MAIN, Snapshot, head_of, open_repository
from triptych.hub.server.storage.git.refs import all_targets
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.tokens import Identity
from triptych.hub.server.threads import in_thread

_T = TypeVar("_T")
_recording = threading.Lock()


async def change_refs(
    hub: Hub,
    repository: Repository,
    identity: Identity | None,
    work: Callable[[pygit2.Repository], _T],
) -> _T:
    """Run work that may move refs of a repository, and publish an event for those that moved.

    Returns: what `work` returns.
    """

    def run() -> tuple[_T, tuple[RefChange, ...]]:
        git = open_repository(hub.layout.repository(repository.uid))
        before = all_targets(git)
        result = work(git)
        changes = changed_refs(before, all_targets(git))
        if any(change.ref == f"refs/heads/{MAIN}" for change in changes):
            record(hub, repository, git)
        return result, changes

    result, changes = await in_thread(run)
    if changes:
        account = identity.name if identity else ""
        by_admin = identity is not None and identity.administers
        hub.events.publish(Committed(repository, changes, account, by_admin))
    return result


def changed_refs(before: dict[str, str], after: dict[str, str]) -> tuple[RefChange, ...]:
    """Return which refs are not where they were."""
    return tuple(
        RefChange(ref, before.get(ref, ""), after.get(ref, ""))
        for ref in sorted(before.keys() | after.keys())
        if before.get(ref) != after.get(ref)
    )


def record(hub: Hub, repository: Repository, git: pygit2.Repository) -> None:
    """Copy what the main branch says into the catalogue."""
    with _recording:
        head = head_of(git, MAIN)
        if head is None:
            return
        here = Snapshot(git, head)
        card = cards.read_card(here.read_path("README.md"))
        names = [item.name for item in head.tree]
        catalog.record_head(
            hub.database,
            repository.id,
            head=str(head.id),
            updated_at=float(head.commit_time),
            card=card,
            tags=cards.tags_of(card, repository.kind, names),
        )


def repair(hub: Hub) -> int:
    """Bring the catalogue up to date with git after a crash; returns how many rows changed."""
    stale = 0
    for repository in catalog.every(hub.database):
        path = hub.layout.repository(repository.uid)
        if not path.exists() or _loose_head(path) == repository.head:
            continue
        git = open_repository(path)
        head = head_of(git, MAIN)
        if head is not None and str(head.id) != repository.head:
            record(hub, repository, git)
            stale += 1
    return stale


def _loose_head(path: Path) -> str:
    """Read where the main branch is, without opening the repository: it is asked of every one."""
    try:
        return (path / "refs" / "heads" / MAIN).read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
