"""The catalogue of repositories: create, find, list, rename, delete. Rows only; git is elsewhere.

A repository keeps one id for life, under which its files lie; names, owners and visibility are
rows, so moving one is a single transaction.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from triptych.errors import HubRefused, RepositoryNotFound
from triptych.hub.server.database import Database
from triptych.hub.server.names import require_repository_name
from triptych.hub.server.repository import SELECT, Repository


def find(database: Database, kind: str, namespace: str, name: str) -> Repository | None:
    """Look a repository up by its exact present name."""
    row = database.one(
        f"{SELECT} WHERE repositories.kind = ? AND accounts.name = ? COLLATE BINARY"
        " AND repositories.name = ? COLLATE BINARY",
        kind, namespace, name,
    )  # fmt: skip
    return Repository.from_row(row) if row else None


def find_folded(database: Database, kind: str, namespace_id: int, name: str) -> str | None:
    """Return the name of a repository that differs from this one by case at most."""
    row = database.one(
        "SELECT name FROM repositories WHERE kind = ? AND namespace_id = ? AND name = ?",
        kind, namespace_id, name,
    )  # fmt: skip
    return str(row["name"]) if row else None


def find_moved(database: Database, kind: str, namespace: str, name: str) -> Repository | None:
    """Look a repository up by a name it had before."""
    row = database.one(
        f"{SELECT} JOIN redirects ON redirects.repository_id = repositories.id"
        " WHERE redirects.kind = ? AND redirects.namespace = ? AND redirects.name = ?",
        kind, namespace, name,
    )  # fmt: skip
    return Repository.from_row(row) if row else None


def by_id(database: Database, repository_id: int) -> Repository:
    """Return a repository by its number.

    Raises: RepositoryNotFound when it was deleted.
    """
    row = database.one(f"{SELECT} WHERE repositories.id = ?", repository_id)
    if row is None:
        raise RepositoryNotFound("Repository not found")
    return Repository.from_row(row)


def by_uid(database: Database, uid: str) -> Repository | None:
    """Look a repository up by the id it keeps for life."""
    row = database.one(f"{SELECT} WHERE repositories.uid = ?", uid)
    return Repository.from_row(row) if row else None


def every(database: Database) -> list[Repository]:
    """Return all repositories; for the housekeeping."""
    return [
        Repository.from_row(row) for row in database.query(f"{SELECT} ORDER BY repositories.id")
    ]


def new_uid() -> str:
    """Return an id in the hub's own form: 24 hexadecimal digits."""
    return secrets.token_hex(12)


def insert(
    database: Database,
    *,
    uid: str,
    kind: str,
    namespace_id: int,
    name: str,
    private: bool,
    sdk: str,
    head: str,
) -> None:
    """Add a row; from this moment the repository exists.

    Raises: HubRefused (409) when the name is taken, in whatever case.
    """
    require_repository_name(name)
    now = time.time()
    try:
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO repositories (uid, kind, namespace_id, name, private, sdk, head,"
                " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (uid, kind, namespace_id, name, int(private), sdk, head, now, now),
            )
            connection.execute(
                "DELETE FROM redirects WHERE kind = ? AND name = ? AND namespace ="
                " (SELECT name FROM accounts WHERE id = ?)",
                (kind, name, namespace_id),
            )
    except sqlite3.IntegrityError as error:
        raise HubRefused(409, "You already created this repository", code="exists") from error


def move(
    database: Database, repository: Repository, namespace_id: int, namespace: str, name: str
) -> None:
    """Rename a repository or change its owner; the old name redirects to it."""
    require_repository_name(name)
    try:
        with database.transaction() as connection:
            connection.execute(
                "UPDATE repositories SET namespace_id = ?, name = ? WHERE id = ?",
                (namespace_id, name, repository.id),
            )
            connection.execute(
                "DELETE FROM redirects WHERE kind = ? AND namespace = ? AND name = ?",
                (repository.kind, namespace, name),
            )
            connection.execute(
                "INSERT OR REPLACE INTO redirects (kind, namespace, name, repository_id)"
                " VALUES (?, ?, ?, ?)",
                (repository.kind, repository.namespace, repository.name, repository.id),
            )
    except sqlite3.IntegrityError as error:
        raise HubRefused(409, f"{namespace}/{name} already exists") from error


def delete(database: Database, repository: Repository) -> None:
    """Remove the row; from this moment the repository is gone."""
    database.write("DELETE FROM repositories WHERE id = ?", repository.id)


def update_settings(
    database: Database, repository: Repository, *, private: bool | None, gated: str | None
) -> None:
    """Change who sees a repository and who reads it; None leaves a setting as it is."""
    database.write(
        "UPDATE repositories SET private = coalesce(?, private), gated = coalesce(?, gated)"
        " WHERE id = ?",
        None if private is None else int(private), gated, repository.id,
    )  # fmt: skip


def record_head(
    database: Database,
    repository_id: int,
    *,
    head: str,
    updated_at: float,
    card: Mapping[str, Any],
    tags: tuple[str, ...],
) -> None:
    """Remember what the main branch says about a repository, for lists and searches."""
    database.write(
        "UPDATE repositories SET head = ?, updated_at = ?, card = ?, tags = ?,"
        " sdk = CASE WHEN ? != '' THEN ? ELSE sdk END WHERE id = ?",
        head, updated_at, json.dumps(card), json.dumps(tags),
        str(card.get("sdk") or ""), str(card.get("sdk") or ""), repository_id,
    )  # fmt: skip
