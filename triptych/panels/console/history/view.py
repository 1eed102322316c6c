"""The view model of the history: each entry in words, with all of its before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.panels.console.accounts import Accounts
from triptych.panels.console.switches.view import change_words
from triptych.panels.console.times import when

PAGE = "/console/history"
SHOWN = 50
#: What the entries are about: the beginning of their subject, and its name.
ABOUT = {
    "": "everything",
    "flags": "switches",
    "upstreams": "providers",
    "spaces": "Spaces",
    "models": "models",
    "secrets": "secrets",
    "prompts": "system prompts",
    "companies": "companies",
    "users": "users",
    "keys": "keys",
    "budgets": "budgets",
    "consent": "consent",
    "requests": "texts that were read",
    "privacy": "data requests",
    "legal_holds": "legal holds",
    "retention": "retention",
}


@dataclass(frozen=True)
class Entry:
    """One entry: `words` say what changed, `before` and `after` are the whole of it."""

    sequence: int
    when: str
    who: str
    did: str
    words: str
    before: str
    after: str


def entries(rows: Sequence[Mapping[str, Any]], accounts: Accounts) -> tuple[Entry, ...]:
    """Return entries in words, newest first."""
    return tuple(
        Entry(
            int(row["sequence"]), when(float(row["created_at"])),
            accounts.key(str(row["actor"])), _did(str(row["action"])), _words(row),
            _whole(row["before"]), _whole(row["after"]),
        )
        for row in rows
    )  # fmt: skip


def _did(action: str) -> str:
    return action.replace(".", ": ", 1).replace("_", " ")


def _words(row: Mapping[str, Any]) -> str:
    """Return what an entry changed: of values with names, those that differ."""
    if str(row["subject"]).startswith("flags/") and row["action"].startswith("flags."):
        return change_words(row)
    before, after = row["before"], row["after"]
    if not isinstance(after, Mapping) or not isinstance(before, Mapping | None):
        return str(row["subject"])
    old = before or {}
    changed = [
        f"{name}: {_short(old.get(name))} → {_short(value)}" if before else
        f"{name}: {_short(value)}"
        for name, value in after.items() if old.get(name) != value
    ]  # fmt: skip
    return f"{row['subject']}. {', '.join(changed[:4])}" if changed else str(row["subject"])


def _short(value: Any) -> str:
    text = "none" if value in (None, "") else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _whole(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
