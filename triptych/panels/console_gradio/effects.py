"""Draw what a change of flags would have meant for the last hour's requests."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

#: Movements that are listed one by one; the rest are summed up.
_TOLD = 6


def named(changes: Mapping[str, bool | str]) -> str:
    """Write changes as one says them: `provider.openai off`."""
    return ", ".join(
        f"{key} = {value}" if isinstance(value, str) else f"{key} {'on' if value else 'off'}"
        for key, value in changes.items()
    )


def effects(what: str, foreseen: Mapping[str, Any]) -> str:
    """Draw what the gateway foresees of a change that is described as `what`."""
    asked, elsewhere = int(foreseen["requests"]), int(foreseen["elsewhere"])
    if not asked:
        told = "no request in the last hour, so nothing would have gone elsewhere"
    else:
        told = (
            f"{elsewhere / asked:.0%} of the last hour's {asked} requests would have gone elsewhere"
        )
        if foreseen["refused"]:
            told += f", and <strong>{int(foreseen['refused'])} would have been refused</strong>"
    moves = list(foreseen["moves"])
    rows = [f"<li>{int(m['requests'])}: {escape(m['from'])} → {escape(m['to'])}</li>"
            for m in moves[:_TOLD]]  # fmt: skip
    if len(moves) > _TOLD:
        rest = sum(int(move["requests"]) for move in moves[_TOLD:])
        rows.append(f"<li>{rest} in {len(moves) - _TOLD} other ways</li>")
    return f"<p>{escape(what)}: {told}.</p>" + (f"<ul>{''.join(rows)}</ul>" if rows else "")
