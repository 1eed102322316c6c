"""Variables and secrets of a repository. Secrets are sealed at rest and leave to one place only:
the environment of the process they were entered for. No route returns their value.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from triptych.errors import HubRefused
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.git.history import timestamp
from triptych.hub.server.storage.hub import Hub

SECRET = "secret"  # noqa: S105 - the word, not one
VARIABLE = "variable"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MAXIMUM_BYTES = 64 * 1024


def put(
    hub: Hub,
    repository: Repository,
    kind: str,
    key: str,
    value: str,
    description: str = "",
    *,
    by_admin: bool = False,
) -> None:
    """Set a variable or a secret; `by_admin` records that an administrator of the hub did.

    Raises: HubRefused (400) for a name no environment can have, or an oversized value.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise HubRefused(400, "A key is letters, digits and underscores, not starting with a digit")
    if not isinstance(value, str) or len(value.encode()) > _MAXIMUM_BYTES or "\0" in value:
        raise HubRefused(400, f"The value of {key} must be text of at most {_MAXIMUM_BYTES} bytes")
    stored = hub.vault.seal(_context(repository, key), value) if kind == SECRET else value.encode()
    hub.database.write(
        "INSERT OR REPLACE INTO repository_settings"
        " (repository_id, kind, key, value, description, updated_at, by_admin)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        repository.id, kind, key, stored, description or "", time.time(), by_admin,
    )  # fmt: skip


def remove(hub: Hub, repository: Repository, kind: str, key: str) -> bool:
    """Delete a variable or a secret; False when there is none of that name."""
    return (
        hub.database.write(
            "DELETE FROM repository_settings WHERE repository_id = ? AND kind = ? AND key = ?",
            repository.id, kind, key,
        )
        > 0
    )  # fmt: skip


def describe(hub: Hub, repository: Repository, kind: str) -> dict[str, dict[str, Any]]:
    """Return what the clients may know: of secrets the name only, of variables the value too."""
    rows = hub.database.query(
        "SELECT * FROM repository_settings WHERE repository_id = ? AND kind = ? ORDER BY key",
        repository.id, kind,
    )  # fmt: skip
    described: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = {
            "key": row["key"],
            "description": row["description"],
            "updatedAt": timestamp(row["updated_at"]),
        }
        if kind == VARIABLE:
            one["value"] = row["value"].decode()
        described[row["key"]] = one
    return described


def reveal(hub: Hub, repository: Repository) -> dict[str, str]:
    """Return the environment of a repository's own process: variables, then secrets.

    Where nothing is isolated, only what an administrator set: a variable such as LD_PRELOAD
    would bring in code that was never approved.
    """
    rows = hub.database.query(
        "SELECT * FROM repository_settings WHERE repository_id = ? AND by_admin >= ?"
        " ORDER BY kind DESC, key",
        repository.id, not hub.isolation.isolates,
    )  # fmt: skip
    return {
        row["key"]: hub.vault.open(_context(repository, row["key"]), row["value"])
        if row["kind"] == SECRET
        else row["value"].decode()
        for row in rows
    }


def withheld(hub: Hub, repository: Repository) -> list[str]:
    """List the names that `reveal` leaves out."""
    if hub.isolation.isolates:
        return []
    rows = hub.database.query(
        "SELECT key FROM repository_settings WHERE repository_id = ? AND by_admin = 0 ORDER BY key",
        repository.id,
    )
    return [row["key"] for row in rows]


def put_all(
    hub: Hub, repository: Repository, body: Mapping[str, Any], *, by_admin: bool = False
) -> None:
    """Take the `secrets` and `variables` with which a Space is created."""
    for kind in (SECRET, VARIABLE):
        for item in body.get(f"{kind}s") or []:
            if not isinstance(item, dict):
                raise HubRefused(400, f"{kind}s must be a list of {{key, value}}")
            put(
                hub, repository, kind, item.get("key", ""), item.get("value", ""),
                str(item.get("description") or ""), by_admin=by_admin,
            )  # fmt: skip


def copy(hub: Hub, source: Repository, target: Repository) -> None:
    """Copy the variables of a repository to its duplicate; never the secrets."""
    for key, one in describe(hub, source, VARIABLE).items():
        put(hub, target, VARIABLE, key, one["value"], one["description"])


def _context(repository: Repository, key: str) -> str:
    return f"{repository.uid}/{key}"
