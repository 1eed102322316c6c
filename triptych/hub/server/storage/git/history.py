"""What happened when: commits of a branch, and the last commit that touched each path."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import SortMode

from triptych.hub.server.storage.git.plumbing import run_git, small_blobs
from triptych.hub.server.storage.git.pointers import MAXIMUM_BYTES, Pointer, parse_pointer
from triptych.hub.server.storage.git.reading import Snapshot


def commits(snapshot: Snapshot, skip: int, count: int) -> list[dict[str, Any]]:
    """Return a page of the history, newest first."""
    walker = snapshot.repository.walk(snapshot.commit.id, SortMode.TOPOLOGICAL)
    return [describe(commit) for commit in islice(walker, skip, skip + count)]


def count_commits(snapshot: Snapshot) -> int:
    """Return how many commits lead to a revision."""
    return sum(1 for _ in snapshot.repository.walk(snapshot.commit.id, SortMode.NONE))


def describe(commit: pygit2.Commit) -> dict[str, Any]:
    """Return a commit as the clients read it."""
    title, _, message = commit.message.strip().partition("\n")
    return {
        "id": str(commit.id),
        "title": title,
        "message": message.strip(),
        "authors": [{"user": commit.author.name}],
        "date": timestamp(commit.commit_time),
    }


def last_commits(snapshot: Snapshot, paths: list[str]) -> dict[str, dict[str, Any]]:
    """Return for each path the newest commit that changed it."""
    wanted = set(paths)
    found: dict[str, dict[str, Any]] = {}
    for commit in _first_parents(snapshot.commit):
        parent = commit.parents[0] if commit.parents else None
        for path in list(wanted):
            here = _oid(commit, path)
            if here is not None and (parent is None or _oid(parent, path) != here):
                summary = describe(commit)
                found[path] = {k: summary[k] for k in ("id", "title", "date")}
                wanted.discard(path)
        if not wanted:
            break
    return found


def large_files(folder: Path) -> list[tuple[str, Pointer]]:
    """Return every large file that any commit points to, with a path it has or had."""
    listed = run_git("rev-list", "--objects", "--all", repository=folder)
    names: dict[str, str] = {}
    for line in listed.decode(errors="replace").splitlines():
        oid, _, path = line.partition(" ")
        names.setdefault(oid, path)
    blobs = small_blobs(names, MAXIMUM_BYTES, folder)
    found = ((names[oid], parse_pointer(content)) for oid, content in blobs)
    return [(path, pointer) for path, pointer in found if pointer]


def timestamp(seconds: float) -> str:
    """Write a moment as the clients parse it: UTC, milliseconds, `Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _first_parents(commit: pygit2.Commit) -> Iterator[pygit2.Commit]:
    current: pygit2.Commit | None = commit
    while current is not None:
        yield current
        current = current.parents[0] if current.parents else None


def _oid(commit: pygit2.Commit, path: str) -> pygit2.Oid | None:
    try:
        return commit.tree[path].id
    except KeyError:
        return None
