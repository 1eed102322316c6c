"""What became of each of a company's files: read whole, in part, or not, and why.

Left out: changing them (`store`, `sync`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from triptych.learning.company.store import Store
from triptych.learning.company.tables import Stored

State = Literal["read", "partly", "not read"]


@dataclass(frozen=True)
class FileState:
    """A current document, its number of passages, and why it was not read whole."""

    document: Stored
    state: State
    why: str
    passages: int


def file_states(store: Store) -> list[FileState]:
    """Return the state of every current document; those that need attention come first."""
    rows = store.connection().execute("select document, count(*) from passages group by document")
    passages = {int(row[0]): int(row[1]) for row in rows}
    found = [_state(one, passages.get(one.id, 0)) for one in store.documents()]
    order = {"not read": 0, "partly": 1, "read": 2}
    return sorted(found, key=lambda one: order[one.state])


def _state(document: Stored, passages: int) -> FileState:
    why = "; ".join(_reason(one) for one in document.unread[:3])
    if len(document.unread) > 3:
        why += f"; and {len(document.unread) - 3} more"
    if document.unread:
        return FileState(document, "partly" if passages else "not read", why, passages)
    return FileState(document, "read", why if passages else "it has no text", passages)


def _reason(unread: dict[str, str]) -> str:
    where, reason = unread.get("where", ""), unread.get("reason", "")
    return f"{where}: {reason}" if where else reason
