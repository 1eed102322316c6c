"""A repository as its row describes it: the value that storage, Spaces, Jobs and HTTP share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych.hub.server.database import Row

KINDS = ("model", "dataset", "space")
SELECT = (
    "SELECT repositories.*, accounts.name AS namespace FROM repositories"
    " JOIN accounts ON accounts.id = repositories.namespace_id"
)


@dataclass(frozen=True)
class Repository:
    """Describe a repository as its row does."""

    id: int
    uid: str
    kind: str
    namespace_id: int
    namespace: str
    name: str
    private: bool
    gated: str
    sdk: str
    downloads: int
    created_at: float
    updated_at: float
    head: str
    card: Mapping[str, Any]
    tags: tuple[str, ...]

    @property
    def repo_id(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def address(self) -> str:
        """Return the path of its page: models have no prefix."""
        prefix = "" if self.kind == "model" else f"{self.kind}s/"
        return f"/{prefix}{self.repo_id}"

    @classmethod
    def from_row(cls, row: Row) -> Repository:
        """Return the repository of a row that `SELECT` returns."""
        return cls(
            id=row["id"],
            uid=row["uid"],
            kind=row["kind"],
            namespace_id=row["namespace_id"],
            namespace=row["namespace"],
            name=row["name"],
            private=bool(row["private"]),
            gated=row["gated"],
            sdk=row["sdk"],
            downloads=row["downloads"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            head=row["head"],
            card=json.loads(row["card"]),
            tags=tuple(json.loads(row["tags"])),
        )
