"""Lists of repositories: filtered, sorted and paged by the database, hidden ones never counted."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

from triptych.errors import HubRefused
from triptych.hub.server.database import Database
from triptych.hub.server.repository import SELECT, Repository
from triptych.hub.server.storage.identity.tokens import Identity

MAXIMUM_PAGE = 1000
_SORTS = {
    "createdAt": "repositories.created_at",
    "created_at": "repositories.created_at",
    "lastModified": "repositories.updated_at",
    "last_modified": "repositories.updated_at",
    "trendingScore": "repositories.updated_at",
    "trending_score": "repositories.updated_at",
    "downloads": "repositories.downloads",
    "likes": "repositories.updated_at",
    "": "repositories.updated_at",
}


@dataclass(frozen=True)
class Search:
    """Select repositories, and the order and size of a page of them."""

    kind: str
    author: str = ""
    search: str = ""
    also: tuple[str, ...] = ()
    """More words that the name must have."""
    pipeline_tag: str = ""
    gated: bool | None = None
    tags: tuple[str, ...] = field(default_factory=tuple)
    sort: str = ""
    descending: bool = True
    limit: int = MAXIMUM_PAGE
    cursor: str = ""


def page(
    database: Database, wanted: Search, identity: Identity | None
) -> tuple[list[Repository], str | None]:
    """Return a page of what the caller may see, and the cursor of the next one."""
    if wanted.sort not in _SORTS:
        raise HubRefused(400, f"Cannot sort by {wanted.sort[:40]!r}")
    column = _SORTS[wanted.sort]
    conditions: list[str] = ["repositories.kind = ?"]
    values: list[Any] = [wanted.kind]
    _add_visibility(conditions, values, identity)
    if wanted.author:
        conditions.append("accounts.name = ?")
        values.append(wanted.author)
    for words in filter(None, (wanted.search, *wanted.also)):
        conditions.append("(accounts.name || '/' || repositories.name) LIKE ? ESCAPE '\\'")
        values.append(f"%{_literal(words)}%")
    if wanted.pipeline_tag:
        conditions.append("json_extract(repositories.card, '$.pipeline_tag') = ?")
        values.append(wanted.pipeline_tag)
    if wanted.gated is not None:
        conditions.append("repositories.gated != ''" if wanted.gated else "repositories.gated = ''")
    for tag in wanted.tags:
        conditions.append("EXISTS (SELECT 1 FROM json_each(repositories.tags) WHERE value = ?)")
        values.append(tag)
    order = "DESC" if wanted.descending else "ASC"
    if wanted.cursor:
        last, number = _read_cursor(wanted.cursor)
        sign = "<" if wanted.descending else ">"
        conditions.append(f"({column}, repositories.id) {sign} (?, ?)")
        values += [last, number]
    rows = database.query(
        f"{SELECT} WHERE {' AND '.join(conditions)}"
        f" ORDER BY {column} {order}, repositories.id {order} LIMIT ?",
        *values, wanted.limit + 1,
    )  # fmt: skip
    shown = rows[: wanted.limit]
    following = None
    if len(rows) > wanted.limit:
        name = column.partition(".")[2]
        following = _write_cursor(shown[-1][name], shown[-1]["id"])
    return [Repository.from_row(row) for row in shown], following


def _add_visibility(conditions: list[str], values: list[Any], identity: Identity | None) -> None:
    """Let through what is public, one's own, one's organisations', or granted to the token."""
    if identity is None:
        conditions.append("private = 0")
        return
    if identity.scope == "fineGrained":
        ids = [str(number) for number in identity.grants]
        conditions.append(f"(private = 0 OR repositories.id IN ({','.join(ids)}))")
        return
    if identity.is_admin:
        return
    owners = [str(identity.account_id), *(str(number) for number in identity.memberships)]
    conditions.append(f"(private = 0 OR namespace_id IN ({','.join(owners)}))")


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _write_cursor(value: Any, number: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([value, number]).encode()).decode()


def _read_cursor(text: str) -> tuple[Any, int]:
    try:
        value, number = json.loads(base64.urlsafe_b64decode(text))
    except (binascii.Error, ValueError) as error:
        raise HubRefused(400, "The cursor is not one of this hub's") from error
    if not isinstance(number, int) or not isinstance(value, int | float):
        raise HubRefused(400, "The cursor is not one of this hub's")
    return value, number
