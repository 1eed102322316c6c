"""What happened when: commits of a branch, and the last commit that touched each path."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import SortMode

from triptych.hub.server import limits
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
    # A message may be as large as a commit; a list of a hundred must not be.
    start = commit.raw_message[: 4 * limits.MESSAGE_CHARS].decode(errors="replace")
    title, _, message = start.strip().partition("\n")
    return {
        "id": str(commit.id),
        "title": title[: limits.MESSAGE_CHARS // 10],
        "message": message.strip()[: limits.MESSAGE_CHARS],
        "authors": [{"user": commit.author.name}],
        "date": timestamp(commit.commit_time),
    }


def last_commits(snapshot: Snapshot, paths: list[str]) -> dict[str, dict[str, Any]]:
    """Return for each path the newest commit that changed it.

    The history is walked once, each commit compared with its first parent by their trees. What
    was found for a commit is kept: a later one costs the comparisons since.
    """
    wanted = set(paths)
    found = _known.get(snapshot.commit.id, wanted)
    wanted -= found.keys()
    for commit, parent in _first_parents(snapshot.commit) if wanted else ():
        earlier = _known.get(commit.id, wanted)
        found |= earlier
        wanted -= earlier.keys()
        if not wanted:
            break
        changed = wanted & _changed(commit, parent)
        found |= dict.fromkeys(changed, commit.id)
        wanted -= changed
    _known.put(snapshot.commit.id, found)
    summaries = {
        oid: {k: v for k, v in describe(commit).items() if k in ("id", "title", "date")}
        for oid in set(found.values())
        if isinstance(commit := snapshot.repository[oid], pygit2.Commit)
    }
    return {path: summaries[oid] for path, oid in found.items()}


def _changed(commit: pygit2.Commit, parent: pygit2.Commit | None) -> set[str]:
    """Return the paths that differ from the first parent, and all folders above them."""
    if parent is None:
        difference = commit.tree.diff_to_tree(swap=True)
    else:
        difference = parent.tree.diff_to_tree(commit.tree)
    changed: set[str] = set()
    for delta in difference.deltas:
        for path in {delta.old_file.path, delta.new_file.path}:
            while path and path not in changed:
                changed.add(path)
                path = path.rpartition("/")[0]
    return changed


class _LastCommits:
    """Remember the last commits of paths by commit; an id never means anything else."""

    def __init__(self, most_paths: int) -> None:
        self._kept: OrderedDict[bytes, dict[str, pygit2.Oid]] = OrderedDict()
        self._most = most_paths
        self._paths = 0
        self._lock = threading.Lock()

    def get(self, commit: pygit2.Oid, wanted: set[str]) -> dict[str, pygit2.Oid]:
        """Return what is known of the wanted paths at a commit."""
        with self._lock:
            known = self._kept.get(commit.raw, {})
            return {path: known[path] for path in wanted & known.keys()}

    def put(self, commit: pygit2.Oid, found: dict[str, pygit2.Oid]) -> None:
        """Keep answers; those of the commits asked for longest ago go first."""
        with self._lock:
            known = self._kept.setdefault(commit.raw, {})
            self._paths += len(found.keys() - known.keys())
            known.update(found)
            self._kept.move_to_end(commit.raw)
            while self._paths > self._most and len(self._kept) > 1:
                self._paths -= len(self._kept.popitem(last=False)[1])


_known = _LastCommits(most_paths=200_000)


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


def _first_parents(
    commit: pygit2.Commit,
) -> Iterator[tuple[pygit2.Commit, pygit2.Commit | None]]:
    """Yield each commit with its first parent, newest first."""
    current: pygit2.Commit | None = commit
    while current is not None:
        parents = current.parents
        parent = parents[0] if parents else None
        yield current, parent
        current = parent
