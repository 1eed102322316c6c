"""Making commits: new trees from operations, and a branch moved only if no other commit moved it.

A commit is atomic because a branch is one small file that git replaces under a lock, after every
object it leads to has been written and synced.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from triptych.errors import CommitConflict, EntryNotFound, HubRefused, RevisionNotFound
from triptych.hub.server import limits
from triptych.hub.server.names import ONLY_BY, folded
from triptych.hub.server.storage.git.attributes import INITIAL, Attributes
from triptych.hub.server.storage.git.reading import MAIN, count_files, head_of

ATTRIBUTES = ".gitattributes"
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_locks_guard = threading.Lock()


@dataclass
class Change:
    """Collect what a commit does: blobs put in place, files and folders removed."""

    files: dict[str, pygit2.Oid] = field(default_factory=dict)
    large: dict[str, str] = field(default_factory=dict)
    """Path of each large file -> its sha256."""
    deleted_files: list[str] = field(default_factory=list)
    deleted_folders: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files) + len(self.deleted_files) + len(self.deleted_folders)


@dataclass(frozen=True)
class Message:
    """Describe a commit: its author and its message."""

    summary: str
    description: str
    author: str
    email: str

    def signature(self) -> pygit2.Signature:
        """Return git's form of the author, as of now."""
        return pygit2.Signature(self.author, self.email or f"{self.author}@users.noreply")

    def text(self) -> str:
        """Return git's form of the message."""
        return f"{self.summary}\n\n{self.description}" if self.description else self.summary


def create_bare(path: Path, message: Message, files: Mapping[str, bytes]) -> str:
    """Create a bare repository with its first commit and return the commit's id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    repository = pygit2.init_repository(str(path), bare=True, initial_head=MAIN)
    change = Change()
    for name, content in {ATTRIBUTES: INITIAL, **files}.items():
        change.files[name] = repository.create_blob(content)
    return commit(repository, MAIN, change, message, parent=None, unborn=True)


def commit(
    repository: pygit2.Repository,
    branch: str,
    change: Change,
    message: Message,
    *,
    parent: str | None,
    unborn: bool = False,
) -> str:
    """Apply a change on top of a branch and move the branch.

    Returns: the new head, or the present one when the change changes nothing.
    Raises: CommitConflict when the branch is no longer at `parent`; RevisionNotFound without the
    branch; EntryNotFound when something to delete is not there.
    """
    with _lock_of(repository.path):
        while True:
            head = head_of(repository, branch)
            if head is None and not unborn:
                raise RevisionNotFound(f"There is no branch {branch}")
            if parent is not None and (head is None or not str(head.id).startswith(parent)):
                raise CommitConflict(
                    "A commit has happened since. Please refresh and try again.",
                    hint=f"{branch} is at {head.id if head else 'nothing'}",
                )
            tree_id = _apply(repository, head, change)
            if head is not None and tree_id == head.tree_id:
                return str(head.id)
            if count_files(repository, tree_id) > limits.FILES:
                raise HubRefused(413, f"A revision has at most {limits.FILES} files")
            signature = message.signature()
            commit_id = repository.create_commit(
                None, signature, signature, message.text(), tree_id, [head.id] if head else []
            )
            if move_branch(repository, branch, head, commit_id):
                return str(commit_id)
            if parent is not None:
                raise CommitConflict("A commit has happened since. Please refresh and try again.")
            time.sleep(0.01)


def move_branch(
    repository: pygit2.Repository, branch: str, head: pygit2.Commit | None, new: pygit2.Oid
) -> bool:
    """Move a branch from where it was read to a new commit; False when a push was faster."""
    name = f"refs/heads/{branch}"
    if head is None:
        repository.references.create(name, new)
        return True
    reference = repository.references.get(name)
    if reference is None or reference.target != head.id:
        return False
    try:
        reference.set_target(new)  # git compares with what `reference` was read as
    except pygit2.GitError:
        return False
    return True


def _apply(repository: pygit2.Repository, head: pygit2.Commit | None, change: Change) -> pygit2.Oid:
    edits = _Edits(repository, head.tree if head else None)
    for path in change.deleted_folders:
        edits.remove(path, folder=True)
    for path in change.deleted_files:
        edits.remove(path, folder=False)
    for path, blob in change.files.items():
        edits.put(path, blob)
    if change.large:
        attributes = Attributes(edits.content(ATTRIBUTES))
        updated = attributes.with_paths(list(change.large))
        if updated != attributes.content:
            edits.put(ATTRIBUTES, repository.create_blob(updated))
    return edits.write()


class _Folder:
    """Hold one folder while it changes; what was not touched stays as git has it."""

    def __init__(self, tree: pygit2.Tree | None) -> None:
        self.entries: dict[str, tuple[pygit2.Oid, int]] = {}
        self.folders: dict[str, _Folder] = {}
        if tree is not None:
            self.entries = {item.name: (item.id, int(item.filemode)) for item in tree}
        self.folded = {folded(name): name for name in self.entries}


class _Edits:
    """Change a tree path by path, opening only the folders that are touched."""

    def __init__(self, repository: pygit2.Repository, tree: pygit2.Tree | None) -> None:
        self._repository = repository
        self._root = _Folder(tree)

    def put(self, path: str, blob: pygit2.Oid) -> None:
        *parents, name = path.split("/")
        folder = self._root
        for parent in parents:
            folder = self._open(folder, parent, path)
        if name in folder.folders or folder.entries.get(name, (None, 0))[1] == FileMode.TREE:
            raise HubRefused(400, f"{path} is a folder; a file cannot take its place")
        _refuse_collision(folder, name, path)
        mode = folder.entries.get(name, (None, int(FileMode.BLOB)))[1]
        kept = mode if mode == FileMode.BLOB_EXECUTABLE else int(FileMode.BLOB)
        folder.entries[name] = (blob, kept)

    def remove(self, path: str, *, folder: bool) -> None:
        *parents, name = path.rstrip("/").split("/")
        place = self._root
        for parent in parents:
            if parent not in place.folders and parent not in place.entries:
                raise EntryNotFound(f"{path} does not exist")
            place = self._open(place, parent, path)
        is_folder = name in place.folders or (
            name in place.entries and place.entries[name][1] == FileMode.TREE
        )
        if (name not in place.entries and name not in place.folders) or is_folder != folder:
            raise EntryNotFound(f"{path} does not exist")
        place.entries.pop(name, None)
        place.folders.pop(name, None)
        place.folded.pop(folded(name), None)

    def content(self, path: str) -> bytes:
        found = self._root.entries.get(path)
        return bytes(self._repository.odb.read(found[0])[1]) if found else b""

    def write(self) -> pygit2.Oid:
        written = self._write(self._root)
        return written if written is not None else self._repository.TreeBuilder().write()

    def _open(self, folder: _Folder, name: str, path: str) -> _Folder:
        if name not in folder.folders:
            tree = None
            if name in folder.entries:
                oid, mode = folder.entries[name]
                if mode != FileMode.TREE:
                    raise HubRefused(400, f"{path} goes through {name}, which is a file")
                tree = self._repository[oid]
            else:
                _refuse_collision(folder, name, path)
            folder.folders[name] = _Folder(tree)
        return folder.folders[name]

    def _write(self, folder: _Folder) -> pygit2.Oid | None:
        for name, child in folder.folders.items():
            oid = self._write(child)
            if oid is None:
                folder.entries.pop(name, None)
            else:
                folder.entries[name] = (oid, int(FileMode.TREE))
        if not folder.entries:
            return None
        builder = self._repository.TreeBuilder()
        for name, (oid, mode) in folder.entries.items():
            builder.insert(name, oid, mode)
        return builder.write()


def _refuse_collision(folder: _Folder, name: str, path: str) -> None:
    """Refuse a name that some file systems cannot tell from one that is there."""
    other = folder.folded.setdefault(folded(name), name)
    if other != name:
        raise HubRefused(400, f"The path {path!r} differs from {other!r} {ONLY_BY}")


def _lock_of(path: str) -> threading.Lock:
    with _locks_guard:
        return _locks[path]
