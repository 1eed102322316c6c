"""Which commits of a Space an administrator of this hub pushed or approved.

An approval belongs to a commit, never to a repository: what others push later waits for one of
its own. It is asked for where workloads are not isolated, and everywhere if
`hub.require_approval` is set.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pygit2

from triptych.errors import HubRefused
from triptych.hub.server.database import Database
from triptych.hub.server.storage.git.reading import open_repository

_HEX = re.compile(r"[0-9a-f]{7,40}")


def approve(database: Database, repository_id: int, sha: str, account: str) -> None:
    """Record that an administrator approved a commit, given by its full id."""
    assert len(sha) == 40
    database.write(
        "INSERT OR IGNORE INTO approved_commits (repository_id, sha, account, approved_at)"
        " SELECT id, ?, ?, ? FROM repositories WHERE id = ?",
        sha, account, time.time(), repository_id,
    )  # fmt: skip


def withdraw(database: Database, repository_id: int, sha: str = "") -> None:
    """Take back the approval of one commit, or of all commits of a repository."""
    database.write(
        "DELETE FROM approved_commits WHERE repository_id = ? AND (sha = ? OR ? = '')",
        repository_id, sha, sha,
    )  # fmt: skip


def is_approved(database: Database, repository_id: int, sha: str) -> bool:
    """Return whether a commit is approved."""
    row = database.one(
        "SELECT 1 FROM approved_commits WHERE repository_id = ? AND sha = ?", repository_id, sha
    )
    return row is not None


def commit_id(git_folder: Path, text: str) -> str:
    """Return the full id of the commit that 7 to 40 hex digits name; a branch is never meant.

    Raises: HubRefused (400) when there is no such commit, or more than one.
    """
    if _HEX.fullmatch(text):
        try:
            found = open_repository(git_folder)[text]
        except (KeyError, ValueError):
            found = None
        if isinstance(found, pygit2.Commit):
            return str(found.id)
    raise HubRefused(400, f"There is no commit {text[:60]!r}: write 7 to 40 digits of its id")
