"""Collecting what nothing refers to: large files, Xet blocks, folders of deleted repositories.

The truth is in git: a large file is wanted while any commit that a branch or tag leads to has a
pointer to it. What is younger than the grace period stays, for a commit may be on its way. The
row goes before the file, so that a crash leaves a file without a row, which the next run takes.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from triptych.hub.server.repositories import catalog
from triptych.hub.server.storage.content import xet_hashes as hashes
from triptych.hub.server.storage.git import history
from triptych.hub.server.storage.git.plumbing import run_git
from triptych.hub.server.storage.hub import Hub

_COMMIT_S = 3600


@dataclass
class Collected:
    """Count what went, or would go."""

    objects: int = 0
    xorbs: int = 0
    repositories: int = 0
    freed_bytes: int = 0


def collect(hub: Hub, *, grace_s: float, dry_run: bool = False) -> Collected:
    """Remove what nothing refers to and report it."""
    report = Collected()
    before = time.time() - grace_s
    wanted: dict[int, set[str]] = {
        repository.id: large_files(hub.layout.repository(repository.uid))
        for repository in catalog.every(hub.database)
    }
    _collect_objects(hub, wanted, before, dry_run, report)
    _collect_xorbs(hub, before, dry_run, report)
    _collect_strays(hub, before, dry_run, report)
    if not dry_run:
        for repository in catalog.every(hub.database):
            _tidy(hub.layout.repository(repository.uid), grace_s)
    return report


def _tidy(repository: Path, grace_s: float) -> None:
    """Let git pack what lies loose and drop what nothing leads to."""
    if repository.exists():
        # A commit under way has written its objects before its branch moves.
        prune = f"--prune={int(max(grace_s, _COMMIT_S))}.seconds.ago"
        run_git("-c", "core.fsync=all", "gc", "--quiet", prune, repository=repository)


def large_files(repository: Path) -> set[str]:
    """Return the sha256 of every large file that any commit of a repository points to."""
    if not repository.exists():
        return set()
    return {pointer.sha256 for _, pointer in history.large_files(repository)}


def _collect_objects(
    hub: Hub, wanted: dict[int, set[str]], before: float, dry_run: bool, report: Collected
) -> None:
    everywhere: set[str] = set().union(*wanted.values())
    for row in hub.database.query("SELECT * FROM objects WHERE touched_at < ?", before):
        if row["sha256"] in everywhere:
            continue
        report.objects += 1
        path = hub.layout.object(row["sha256"])
        report.freed_bytes += path.stat().st_size if path.exists() else 0
        if dry_run:
            continue
        # Checked again inside the transaction: a commit may have claimed it meanwhile.
        with hub.database.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM objects WHERE sha256 = ? AND touched_at < ?", (row["sha256"], before)
            ).rowcount
            connection.execute("DELETE FROM xet_files WHERE sha256 = ?", (row["sha256"],))
            if gone:
                path.unlink(missing_ok=True)
    if dry_run:
        return
    for repository_id, kept in wanted.items():
        _forget_grants(hub, repository_id, kept, before)


def _forget_grants(hub: Hub, repository_id: int, kept: set[str], before: float) -> None:
    """Take a large file from a repository that no longer points to it, while others still do."""
    rows = hub.database.query(
        "SELECT sha256 FROM repository_objects JOIN objects USING (sha256)"
        " WHERE repository_id = ? AND touched_at < ?",
        repository_id, before,
    )  # fmt: skip
    with hub.database.transaction() as connection:
        connection.executemany(
            "DELETE FROM repository_objects WHERE repository_id = ? AND sha256 = ?",
            [(repository_id, row["sha256"]) for row in rows if row["sha256"] not in kept],
        )


def _collect_xorbs(hub: Hub, before: float, dry_run: bool, report: Collected) -> None:
    used = {
        hashes.to_text(term.xorb)
        for row in hub.database.query("SELECT hash FROM xet_files")
        for term in hub.objects.xet.recipe(row["hash"])[0]
    }
    rows = hub.database.query("SELECT hash, size FROM xorbs WHERE touched_at < ?", before)
    unused = [row for row in rows if row["hash"] not in used]
    if unused and not dry_run:
        hub.objects.xet.renew_generation()  # first: from now on no client counts on them
    for row in unused:
        report.xorbs += 1
        report.freed_bytes += row["size"]
        if dry_run:
            continue
        with hub.database.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM xorbs WHERE hash = ? AND touched_at < ?", (row["hash"], before)
            ).rowcount
            if gone:
                hub.layout.xorb(row["hash"]).unlink(missing_ok=True)


def _collect_strays(hub: Hub, before: float, dry_run: bool, report: Collected) -> None:
    """Take files and folders without a row: what a crash left behind."""
    known = {repository.uid for repository in catalog.every(hub.database)}
    for folder in (hub.layout.root / "repositories").glob("*/*.git"):
        if folder.name.removesuffix(".git") in known or folder.stat().st_mtime > before:
            continue
        report.repositories += 1
        report.freed_bytes += sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        if not dry_run:
            shutil.rmtree(folder, ignore_errors=True)
    for path in hub.layout.objects.glob("*/*/*"):
        row = hub.database.one("SELECT 1 FROM objects WHERE sha256 = ?", path.name)
        if row is None and path.stat().st_mtime <= before:
            report.objects += 1
            _remove(path, dry_run, report)
    for path in hub.layout.xorbs.glob("*/*"):
        row = hub.database.one("SELECT 1 FROM xorbs WHERE hash = ?", path.name)
        if row is None and path.stat().st_mtime <= before:
            report.xorbs += 1
            _remove(path, dry_run, report)


def _remove(path: Path, dry_run: bool, report: Collected) -> None:
    report.freed_bytes += path.stat().st_size
    if not dry_run:
        path.unlink(missing_ok=True)
