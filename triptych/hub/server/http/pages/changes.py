"""What a commit changed, as a page shows it: lines of text, sizes of large files."""

from __future__ import annotations

from dataclasses import dataclass, field

import pygit2
from pygit2.enums import DeltaStatus

from triptych.hub.server.storage.git.pointers import MAXIMUM_BYTES, Pointer, parse_pointer
from triptych.hub.server.storage.git.reading import Snapshot

_FILES = 300
_LINES = 4000
_WORDS = {
    DeltaStatus.ADDED: "added",
    DeltaStatus.DELETED: "deleted",
    DeltaStatus.MODIFIED: "changed",
    DeltaStatus.RENAMED: "renamed",
    DeltaStatus.TYPECHANGE: "changed",
}


@dataclass
class Changed:
    """Describe what happened to one file."""

    path: str
    old_path: str
    what: str
    added: int = 0
    removed: int = 0
    binary: bool = False
    old_large: Pointer | None = None
    new_large: Pointer | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    """Sign (`+`, `-`, ` `, or `@` for a heading) and text."""


def of(here: Snapshot) -> list[Changed]:
    """Return what a commit changed against its first parent."""
    tree = here.commit.tree
    if here.commit.parents:
        diff = here.commit.parents[0].tree.diff_to_tree(tree)
    else:
        diff = tree.diff_to_tree(swap=True)
    diff.find_similar()
    changed = []
    left = _LINES
    for number, patch in enumerate(diff):
        if number == _FILES:
            break
        one = _changed(here.repository, patch)
        left = _take_lines(one, patch, left)
        changed.append(one)
    return changed


def _changed(repository: pygit2.Repository, patch: pygit2.Patch) -> Changed:
    delta = patch.delta
    _, added, removed = patch.line_stats
    return Changed(
        path=delta.new_file.path,
        old_path=delta.old_file.path,
        what=_WORDS.get(delta.status, "changed"),
        added=added,
        removed=removed,
        binary=delta.is_binary,
        old_large=_pointer(repository, delta.old_file.id),
        new_large=_pointer(repository, delta.new_file.id),
    )


def _pointer(repository: pygit2.Repository, oid: pygit2.Oid) -> Pointer | None:
    if oid not in repository:
        return None
    _, size = repository.odb.read_header(oid)
    return parse_pointer(repository.odb.read(oid)[1]) if size < MAXIMUM_BYTES else None


def _take_lines(one: Changed, patch: pygit2.Patch, left: int) -> int:
    if one.binary or one.old_large or one.new_large:
        return left
    for hunk in patch.hunks:
        one.lines.append(("@", hunk.header.strip()))
        for line in hunk.lines:
            if left == 0:
                return 0
            one.lines.append((line.origin, line.content.rstrip("\r\n")))
            left -= 1
    return left
