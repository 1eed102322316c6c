"""The last commit of each path: right, and found by reading each commit's trees once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pygit2
import pytest

from triptych.hub.server.storage.git import history
from triptych.hub.server.storage.git.commits import Change, Message, commit, create_bare
from triptych.hub.server.storage.git.reading import Snapshot, open_repository, resolve

BY = Message("commit", "", "ann", "ann@x")


class Counting(pygit2.OdbBackend):  # type: ignore[misc]
    """Read from a repository's folder and count the objects read."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._under = pygit2.Odb(str(folder / "objects"))
        self.reads = 0

    def read_cb(self, oid: pygit2.Oid) -> tuple[int, bytes]:
        self.reads += 1
        kind, content = self._under.read(oid)
        return int(kind), content

    def read_prefix_cb(self, oid: pygit2.Oid) -> tuple[int, bytes, pygit2.Oid]:
        return (*self.read_cb(oid), oid)

    def refresh_cb(self) -> None:
        """Nothing is written while a test reads."""

    def read_header_cb(self, oid: pygit2.Oid) -> tuple[int, int]:
        kind, content = self._under.read(oid)
        return int(kind), len(content)

    def exists_cb(self, oid: pygit2.Oid) -> bool:
        return oid in self._under

    def __iter__(self) -> Iterator[pygit2.Oid]:
        return iter(self._under)


def counted(folder: Path) -> tuple[Snapshot, Counting]:
    repository = open_repository(folder)
    store = pygit2.Odb()
    backend = Counting(folder)
    store.add_backend(backend, 1)
    repository.set_odb(store)
    return resolve(repository, "main"), backend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_bare(tmp_path / "r.git", BY, {})
    return tmp_path / "r.git"


def add(folder: Path, files: dict[str, bytes], deleted: tuple[str, ...] = ()) -> str:
    git = open_repository(folder)
    change = Change({p: git.create_blob(c) for p, c in files.items()}, deleted_files=list(deleted))
    return commit(git, "main", change, BY, parent=None)


def test_found_f10_many_commits_of_one_file_each_are_walked_once(folder: Path) -> None:
    for number in range(150):
        add(folder, {f"logs/{number:04}.txt": str(number).encode()})
    paths = [f"logs/{number:04}.txt" for number in range(150)]
    here, backend = counted(folder)
    assert len(history.last_commits(here, paths)) == 150
    # A commit, its root, one folder: a few reads a commit, not one for each file of each commit.
    assert backend.reads <= 5 * 151
    # Another reader of the same commit, and of the next one, reads next to nothing.
    again, backend = counted(folder)
    assert len(history.last_commits(again, paths)) == 150
    assert backend.reads <= 160  # the commits that are named
    head = add(folder, {"logs/new.txt": b"new"})
    following, backend = counted(folder)
    found = history.last_commits(following, [*paths, "logs/new.txt", "logs"])
    assert found["logs"]["id"] == found["logs/new.txt"]["id"] == head
    assert len(found) == 152
    assert backend.reads <= 170  # the commits that are named, and one comparison


def test_found_f10_many_files_of_one_commit_are_found_at_once(folder: Path) -> None:
    head = add(folder, {f"d{n % 7}/{n}.txt": b"x" for n in range(3000)})
    paths = [entry.path for entry in resolve(open_repository(folder), "main").files()]
    here, backend = counted(folder)
    found = history.last_commits(here, paths)
    assert {one["id"] for path, one in found.items() if path.startswith("d")} == {head}
    assert backend.reads <= 40


def test_found_f10_the_answer_is_that_of_looking_at_every_commit(folder: Path) -> None:
    rng = random.Random(3)
    here_now: set[str] = set()
    for number in range(60):
        files = {f"{rng.choice('abc')}/{rng.choice('xyz')}/{rng.randint(0, 5)}": b"%d" % number
                 for _ in range(rng.randint(1, 3))}  # fmt: skip
        gone = tuple(rng.sample(sorted(here_now - set(files)), min(1, len(here_now - set(files)))))
        add(folder, files, gone)
        here_now = (here_now | set(files)) - set(gone)
        if number % 7 == 0:  # the answers of some commits are kept, of others not
            snapshot = resolve(open_repository(folder), "main")
            history.last_commits(snapshot, rng.sample(sorted(here_now), len(here_now) // 2))
    here = resolve(open_repository(folder), "main")
    paths = [entry.path for entry in here.listing(recursive=True)]
    found = history.last_commits(here, paths)
    assert {path: one["id"] for path, one in found.items()} == slowly(here, paths)


def slowly(here: Snapshot, paths: list[str]) -> dict[str, Any]:
    found = {}
    for path in paths:
        current = here.commit
        while current.parents and oid(current.parents[0], path) == oid(current, path):
            current = current.parents[0]
        found[path] = str(current.id)
    return found


def oid(commit: pygit2.Commit, path: str) -> Any:
    try:
        return commit.tree[path].id
    except KeyError:
        return None
