"""Reading bare repositories: revisions, entries, trees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pygit2
from pygit2.enums import FileMode, ObjectType

from triptych.errors import EntryNotFound, RevisionNotFound
from triptych.hub.server.storage.git.pointers import MAXIMUM_BYTES, Pointer, parse_pointer

MAIN = "main"
_HEX = re.compile(r"[0-9a-f]{7,40}")

# Objects and refs are on disk before a client hears that a commit succeeded.
pygit2.settings.enable_fsync_gitdir(True)


@dataclass(frozen=True)
class Entry:
    """Describe a file or folder at a revision."""

    path: str
    oid: str
    is_folder: bool
    git_size: int
    pointer: Pointer | None = None

    @property
    def size(self) -> int:
        """Return the size a reader sees."""
        return self.pointer.size if self.pointer else self.git_size

    @property
    def etag(self) -> str:
        """Return what identifies the content: sha256 of a large file, else git's id."""
        return self.pointer.sha256 if self.pointer else self.oid


class Snapshot:
    """Read a repository at one commit."""

    def __init__(self, repository: pygit2.Repository, commit: pygit2.Commit) -> None:
        self.repository = repository
        self.commit = commit

    @property
    def sha(self) -> str:
        """Return the commit's id."""
        return str(self.commit.id)

    @cached_property
    def _tree(self) -> pygit2.Tree:
        return self.commit.tree

    def entry(self, path: str) -> Entry:
        """Return one file or folder; an empty path is the root.

        Raises: EntryNotFound.
        """
        if not path:
            return Entry("", str(self._tree.id), True, 0)
        try:
            found = self._tree[path]
        except (KeyError, ValueError) as error:
            raise EntryNotFound(f"{path} does not exist on {self.sha[:12]}") from error
        return self._describe(path, found.id, int(found.filemode))

    def read(self, entry: Entry) -> bytes:
        """Return what git keeps for a file: its content, or the pointer of a large one."""
        return bytes(self.repository.odb.read(pygit2.Oid(hex=entry.oid))[1])

    def read_path(self, path: str) -> bytes | None:
        """Return what git keeps at a path, or None when there is no such file."""
        try:
            entry = self.entry(path)
        except EntryNotFound:
            return None
        return None if entry.is_folder else self.read(entry)

    def listing(self, path: str = "", *, recursive: bool = False) -> Iterator[Entry]:
        """Yield what a folder holds, folders before what is in them.

        Raises: EntryNotFound when there is no such folder.
        """
        entry = self.entry(path)
        if not entry.is_folder:
            raise EntryNotFound(f"{path} is not a folder on {self.sha[:12]}")
        yield from self._walk(pygit2.Oid(hex=entry.oid), f"{path}/" if path else "", recursive)

    def files(self) -> Iterator[Entry]:
        """Yield every file."""
        return (entry for entry in self.listing(recursive=True) if not entry.is_folder)

    def paths(self) -> Iterator[str]:
        """Yield the path of every file, without looking at any."""
        folders = [("", self._tree)]
        while folders:
            prefix, tree = folders.pop()
            for item in tree:
                if int(item.filemode) == FileMode.TREE:
                    folders.append((f"{prefix}{item.name}/", item))
                else:
                    yield prefix + item.name

    def _walk(self, tree_id: pygit2.Oid, prefix: str, recursive: bool) -> Iterator[Entry]:
        for item in self.repository[tree_id]:
            entry = self._describe(prefix + item.name, item.id, int(item.filemode))
            yield entry
            if recursive and entry.is_folder:
                yield from self._walk(item.id, f"{entry.path}/", recursive)

    def _describe(self, path: str, oid: pygit2.Oid, mode: int) -> Entry:
        if mode in (FileMode.TREE, FileMode.COMMIT):
            return Entry(path, str(oid), True, 0)
        size, pointer = _blob(self.repository, oid)
        return Entry(path, str(oid), False, size, None if mode == FileMode.LINK else pointer)


class _Blobs:
    """Remember sizes and pointers of files in git; an id never means anything else."""

    def __init__(self, most: int) -> None:
        self._known: dict[bytes, tuple[int, Pointer | None]] = {}
        self._most = most

    def __call__(
        self, repository: pygit2.Repository, oid: pygit2.Oid
    ) -> tuple[int, Pointer | None]:
        found = self._known.get(oid.raw)
        if found is None:
            _, size = repository.odb.read_header(oid)
            small = size < MAXIMUM_BYTES
            found = size, parse_pointer(repository.odb.read(oid)[1]) if small else None
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[oid.raw] = found
        return found


_blob = _Blobs(most=50_000)


class _Counts:
    """Remember how many files a tree stands for; each distinct tree is read once."""

    def __init__(self, most: int) -> None:
        self._known: dict[bytes, int] = {}
        self._most = most

    def __call__(self, repository: pygit2.Repository, tree_id: pygit2.Oid) -> int:
        """Return the number of files in a tree and in all folders below it."""
        found = self._known.get(tree_id.raw)
        if found is None:
            found = sum(
                self(repository, item.id) if int(item.filemode) == FileMode.TREE else 1
                for item in repository[tree_id]
            )
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[tree_id.raw] = found
        return found


count_files = _Counts(most=50_000)


def open_repository(path: Path) -> pygit2.Repository:
    """Open a bare repository."""
    return pygit2.Repository(str(path), pygit2.enums.RepositoryOpenFlag.BARE)


def resolve(repository: pygit2.Repository, revision: str) -> Snapshot:
    """Return the commit a branch, tag, ref or commit id names.

    Raises: RevisionNotFound.
    """
    # Forty digits are a commit and nothing else, so that a pinned revision never changes.
    names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
    for name in () if len(revision) == 40 and _HEX.fullmatch(revision) else names:
        if name == revision and not revision.startswith("refs/"):
            continue
        commit = _commit_of_ref(repository, name)
        if commit is not None:
            return Snapshot(repository, commit)
    if _HEX.fullmatch(revision):
        try:
            found = repository[revision]
        except (KeyError, ValueError):
            found = None
        if found is not None and found.type == ObjectType.COMMIT and _reachable(repository, found):
            return Snapshot(repository, found)
    raise RevisionNotFound(f"Invalid rev id: {revision[:200]}")


def head_of(repository: pygit2.Repository, branch: str) -> pygit2.Commit | None:
    """Return the commit a branch points to, or None when there is no such branch."""
    return _commit_of_ref(repository, f"refs/heads/{branch}")


def _commit_of_ref(repository: pygit2.Repository, name: str) -> pygit2.Commit | None:
    try:
        reference = repository.references.get(name)
    except ValueError:  # not a name a ref can have
        return None
    if reference is None:
        return None
    try:
        return reference.peel(pygit2.Commit)
    except pygit2.GitError:
        return None


def _reachable(repository: pygit2.Repository, commit: pygit2.Commit) -> bool:
    """Return whether a commit belongs to a branch or tag; leftovers of refused pushes do not."""
    tips = [_commit_of_ref(repository, name) for name in repository.references]
    ids = [tip.id for tip in tips if tip is not None]
    return commit.id in ids or any(repository.descendant_of(tip, commit.id) for tip in ids)
