"""Keep hub repositories in step with this checkout: plan, apply, check, roll back.

A plan compares by content hash, so one changed byte shows. Applying is one atomic commit on
top of the head the plan was made for; it names the source commit and stamps `SYNC.json` with
the hash of every file it wrote. That stamp is how the next plan tells our files from another
hand's. Left out: the manifest and what git tracks (`manifest`), and waiting for a Space to run
what it was given (`deployments`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.errors import RepositoryNotFound, SyncDrift, UsageError
from triptych.hub.changes import Changes, compare, git_oid, matches, sha256
from triptych.hub.client import Hub
from triptych.hub.manifest import STAMP, Manifest, Source, Target
from triptych.hub.repository import Content, RemoteFile

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Stamp:
    """Describe what the last sync wrote: from which commit, on top of which head, which files."""

    source_commit: str
    previous: str | None
    files: Mapping[str, Mapping[str, str]]

    def encode(self) -> bytes:
        """Write `SYNC.json`."""
        values = {
            "format_version": FORMAT_VERSION,
            "source_commit": self.source_commit,
            "previous": self.previous,
            "files": self.files,
        }
        return (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Plan:
    """Hold what one target would become, and what another hand did to it since the last sync."""

    target: Target
    head: str | None
    wanted: Mapping[str, Content]
    changes: Changes
    stamp: Stamp
    stamped: Stamp | None
    foreign: Mapping[str, str]

    @property
    def in_step(self) -> bool:
        """Return whether the target is exactly what the checkout says."""
        return not self.changes and not self.foreign and self.is_stamped

    @property
    def is_stamped(self) -> bool:
        """Return whether the target's own list of synced files is the one this plan would write."""
        return self.stamped is not None and self.stamped.files == self.stamp.files

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values."""
        return {
            "repo": str(self.target.repo),
            "head": self.head,
            "source_commit": self.stamp.source_commit,
            "synced_commit": self.stamped.source_commit if self.stamped else None,
            "add": self.changes.added,
            "change": self.changes.changed,
            "delete": self.changes.deleted,
            "unchanged": len(self.changes.unchanged),
            "foreign": dict(self.foreign),
            "in_step": self.in_step,
        }

    def lines(self) -> Iterator[str]:
        """Yield the plan for a person, one line a file."""
        for sign, paths in (
            ("+", self.changes.added),
            ("~", self.changes.changed),
            ("-", self.changes.deleted),
        ):
            for path in paths:
                yield f"  {sign} {path}"
        if not self.is_stamped:
            yield f"  {'~' if self.stamped else '+'} {STAMP}"
        for path, what in self.foreign.items():
            yield f"  ! {path}: {what}"


def plan(
    hub: Hub, manifest: Manifest, target: Target, source: Source, *, dirty: bool = False
) -> Plan:
    """Compare what a target should hold with what it holds.

    Raises: UsageError for a checkout with uncommitted changes, unless `dirty`.
    """
    if not dirty:
        _refuse_dirty(manifest, target, source)
    mapped = manifest.files(target, source, untracked=dirty)
    wanted: dict[str, Content] = {goal: source.root / path for goal, path in mapped.items()}
    held = _look(hub, target)
    written = held.stamp.files if held.stamp else {}
    removable = [
        path
        for path in held.files
        if (path in written or target.manages(path)) and not target.owns(path)
    ]
    files = {
        goal: {"source": path, **_fingerprint(source.root / path)} for goal, path in mapped.items()
    }
    commit = source.commit + ("-dirty" if dirty and source.changed else "")
    return Plan(
        target,
        held.head,
        wanted,
        compare(wanted, held.files, removable),
        Stamp(commit, held.head, files),
        held.stamp,
        {path: what for path, what in _foreign(target, held) if not _agrees(path, wanted, held)},
    )


def apply(hub: Hub, planned: Plan, source: Source, *, force: bool = False) -> str:
    """Carry out a plan as one commit and return the target's head; nothing to do is no commit.

    Raises: SyncDrift when another hand changed the target and `force` is false;
    CommitConflict when it changed since the plan was made.
    """
    target, head, changes = planned.target, planned.head, planned.changes
    if planned.foreign and not force:
        raise _drift(target, planned.foreign)
    if head and planned.in_step:
        return head
    if head is None:
        hub.create(target.repo, sdk=target.sdk)
        head = hub.head(target.repo, target.branch)
        changes = compare(planned.wanted, hub.tree(target.repo, head))
    stamp = Stamp(planned.stamp.source_commit, head, planned.stamp.files)
    return hub.commit(
        target.repo,
        {**changes.operations(planned.wanted), STAMP: stamp.encode()},
        f"Sync {source.commit[:12]}: {source.subject}",
        description=f"Source-Commit: {stamp.source_commit}",
        parent=head,
        revision=target.branch,
    )


def roll_back(hub: Hub, target: Target, *, force: bool = False) -> str:
    """Put every synced file back to what it was before the last sync, as one new commit.

    Files that belong to the target alone stay as they are.

    Raises: UsageError when nothing was ever synced; SyncDrift as `apply` does.
    """
    held = _look(hub, target)
    if held.head is None or held.stamp is None or held.stamp.previous is None:
        raise UsageError(f"{target.repo} has no sync to roll back", hint="see `triptych sync plan`")
    foreign = dict(_foreign(target, held))
    if foreign and not force:
        raise _drift(target, foreign)
    before = hub.tree(target.repo, held.stamp.previous)
    folder = hub.download(target.repo, held.stamp.previous)
    ours = {
        path
        for path in {*held.files, *before}
        if path == STAMP or path in held.stamp.files or target.manages(path)
    }
    wanted: dict[str, Content] = {path: folder / path for path in ours if path in before}
    changes = compare(wanted, held.files, removable=ours)
    if not changes:
        return held.head
    return hub.commit(
        target.repo,
        changes.operations(wanted),
        f"Roll back sync of {held.stamp.source_commit[:12]}",
        description=f"Restores: {held.stamp.previous}",
        parent=held.head,
        revision=target.branch,
    )


@dataclass(frozen=True)
class _Held:
    """What a target holds now; `intact` tells whether its stamp is as sync wrote it."""

    head: str | None
    files: Mapping[str, RemoteFile]
    stamp: Stamp | None
    intact: bool = True


def _look(hub: Hub, target: Target) -> _Held:
    try:
        head = hub.head(target.repo, target.branch)
    except RepositoryNotFound:
        return _Held(None, {}, None)
    files = hub.tree(target.repo, head)
    if STAMP not in files:
        return _Held(head, files, None)
    written = hub.read(target.repo, STAMP, head)
    stamp = _decode(target, written)
    return _Held(head, files, stamp, intact=stamp is not None and stamp.encode() == written)


def _decode(target: Target, written: bytes) -> Stamp | None:
    try:
        values = json.loads(written)
        version = values["format_version"]
        stamp = Stamp(values["source_commit"], values["previous"], values["files"])
        readable = all(isinstance(facts, dict) for facts in stamp.files.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if version != FORMAT_VERSION:
        raise SyncDrift(
            f"{target.repo} was synced by another version of triptych (format {version})",
            hint="use that version",
        )
    return stamp if readable else None


def _foreign(target: Target, held: _Held) -> Iterator[tuple[str, str]]:
    """Yield every synced path that is not as the last sync left it."""
    if not held.intact:
        yield STAMP, "changed by another hand"
    written = held.stamp.files if held.stamp else {}
    for path, facts in sorted(written.items()):
        if path not in held.files:
            yield path, "deleted by another hand"
        elif _hash(held.files[path]) not in (facts.get("sha256"), facts.get("git_oid")):
            yield path, "changed by another hand"
    for path in sorted(held.files):
        if path not in written and target.manages(path):
            yield path, "added by another hand" if held.stamp else "older than the first sync"


def _agrees(path: str, wanted: Mapping[str, Content], held: _Held) -> bool:
    """Return whether the checkout already says what the other hand did."""
    if path == STAMP:
        return False
    if path not in held.files:
        return path not in wanted
    return path in wanted and matches(wanted[path], held.files[path])


def _hash(file: RemoteFile) -> str:
    return file.sha256 or file.git_oid


def _fingerprint(file: Path) -> dict[str, str]:
    return {"sha256": sha256(file), "git_oid": git_oid(file)}


def _refuse_dirty(manifest: Manifest, target: Target, source: Source) -> None:
    stray = [
        path
        for path in source.untracked
        if any(rule.map(path) for rule in target.rules) and not manifest.excludes(path)
    ]
    changed = [*source.changed, *stray]
    if changed:
        more = f" and {len(changed) - 10} more" if len(changed) > 10 else ""
        raise UsageError(
            f"the checkout has changes that are not committed: {', '.join(changed[:10])}{more}",
            hint="commit them, or pass --allow-dirty",
        )


def _drift(target: Target, foreign: Mapping[str, str]) -> SyncDrift:
    found = "\n".join(f"  {path}: {what}" for path, what in foreign.items())
    return SyncDrift(
        f"{target.repo} was changed by another hand:\n{found}",
        hint="bring those changes into this checkout first, or overwrite them with --force",
    )
