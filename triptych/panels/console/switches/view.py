"""The view model of the switches: their state, what a form changes, and the effects of it.

A change is made against the version that the page showed, so that two admins meet in a conflict
and never in a lost update. Left out: rollouts to a share, exceptions (`exceptions`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from starlette.datastructures import FormData

from triptych.errors import TierError
from triptych.panels.console.words import KINDS
from triptych.panels.gateway_client import GatewayClient

Value = bool | str
_KINDS = ("hf_spaces", "local", "openai")  # those that the fallback order puts in order
_FIRST = (*_KINDS, "anthropic", "gemini")
GROUPS: Mapping[str, Mapping[str, str]] = {
    "Providers": {f"provider.{kind}": KINDS[kind] for kind in _FIRST},
    "Tiers": {
        "tier.base": "Base tier",
        "tier.company": "Company tier",
        "tier.abstraction": "Abstraction tier",
    },
    "Answers": {
        "fallback": "Use the next provider when one fails",
        "cache": "Cache answers",
        "auto": "Choose the tier by content when the request leaves it open",
        "log.content": "Keep texts where consent was given",
    },
}
LABELS = {key: label for group in GROUPS.values() for key, label in group.items()}
FIRST = (("auto", "In the fallback order"), *((kind, KINDS[kind]) for kind in _FIRST))
ORDERS = (
    ("configured", "As configured"),
    *((">".join(order), ", then ".join(KINDS[kind] for kind in order))
      for order in permutations(_KINDS)),
)  # fmt: skip
PICKS = {"provider": ("First provider", FIRST), "order": ("Fallback order", ORDERS)}
#: Movements of requests that are listed one by one; the rest is summed up.
_LISTED = 6


@dataclass(frozen=True)
class Switch:
    """One switch as the form shows it; `note` says for which callers it differs."""

    key: str
    label: str
    on: bool
    note: str = ""


@dataclass(frozen=True)
class Pick:
    """A value that is picked from a list."""

    key: str
    label: str
    choices: tuple[tuple[str, str], ...]
    value: str


@dataclass(frozen=True)
class Switches:
    """The form: its groups, its picks, and the state it was made from (`seen`, as JSON)."""

    groups: Mapping[str, tuple[Switch, ...]]
    picks: tuple[Pick, ...]
    order: tuple[str, ...]
    warnings: tuple[str, ...]
    seen: str


@dataclass(frozen=True)
class Effects:
    """What a change would have meant for the last hour's requests."""

    changes: str
    words: str
    refused: str = ""
    moves: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One audited change of switches; `revert` is whether it can be undone from here."""

    sequence: int
    when: float
    by: str
    words: str
    revert: bool


@dataclass(frozen=True)
class Wanted:
    """What a sent form changes, against which versions."""

    changes: Mapping[str, Value]
    versions: Mapping[str, int]
    rules: tuple[str, ...]


def value_of(definition: Mapping[str, Any]) -> Value:
    """Return what a flag is without a rule."""
    value: Value = definition["variants"][definition["defaultVariant"]]
    return value


def switches(
    answer: Mapping[str, Any], upstreams: Sequence[Mapping[str, Any]], typed: FormData | None = None
) -> Switches:
    """Return the form; with `typed`, as a refused visitor left it."""
    flags = {row["key"]: row for row in answer["flags"]}
    seen = json.dumps({
        key: {"value": value_of(flags[key]["definition"]), "version": flags[key]["version"],
              "rule": bool(flags[key]["definition"].get("targeting"))}
        for key in (*PICKS, *LABELS)
    })  # fmt: skip
    values = {key: row["value"] for key, row in json.loads(seen).items()}
    if typed is not None:
        seen = str(typed.get("seen", ""))
        values = _typed(typed)
    groups = {
        name: tuple(Switch(key, label, bool(values[key]), _note(flags[key], answer))
                    for key, label in group.items())
        for name, group in GROUPS.items()
    }  # fmt: skip
    picks = tuple(
        Pick(key, label, _offered(choices, str(values[key])), str(values[key]))
        for key, (label, choices) in PICKS.items()
    )
    order = tuple(f"{row['name']} ({', '.join(row['models'])})" for row in upstreams)
    warnings = ["The gateway cannot read new switches; it keeps the last ones."]
    return Switches(groups, picks, order, tuple(warnings if answer.get("stale") else ()), seen)


def _offered(
    choices: tuple[tuple[str, str], ...], value: str
) -> tuple[tuple[str, str], ...]:  # a value that was set elsewhere is kept
    return choices if value in dict(choices) else (*choices, (value, KINDS.get(value, value)))


def _note(row: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    if row["key"] in (answer.get("killed") or ()):
        return "switched off by the environment (TRIPTYCH_KILL), whatever is set here"
    notes = []
    if rule := row["definition"].get("targeting"):
        notes.append(share_words(rule))
    if row["overrides"]:
        number = len(row["overrides"])
        notes.append(f"{number} {'exception' if number == 1 else 'exceptions'}")
    return ", ".join(notes)


def share_words(rule: Mapping[str, Any]) -> str:
    """Return a rollout's rule in words."""
    try:
        subject, shares, _ = rule["if"]
        share = next(part[1] for part in shares["fractional"][1:] if part[0] == "on") / 100
        whom = "companies" if subject["var"] == "company_id" else "users"
    except (KeyError, IndexError, TypeError, ValueError, StopIteration):
        return "on by a rule"
    return f"on for {share:g} % of {whom}"


def _typed(sent: FormData) -> dict[str, Value]:
    on = set(sent.getlist("on"))
    values: dict[str, Value] = {key: key in on for key in LABELS}
    return values | {key: str(sent.get(key, "")) for key in PICKS}


def wanted(sent: FormData) -> Wanted:
    """Return what differs from what the page showed; changes of other admins are not among it.

    Raises: TierError.
    """
    try:
        seen = json.loads(str(sent.get("seen", "")))
        changes = {k: v for k, v in _typed(sent).items() if seen[k]["value"] != v}
        versions = {key: int(seen[key]["version"]) for key in changes}
        rules = tuple(LABELS[key] for key in changes if key in LABELS and seen[key]["rule"])
    except (ValueError, KeyError, TypeError) as error:
        raise TierError("this page is too old", hint="reload it", code="stale_page") from error
    return Wanted(changes, versions, rules)


def named(changes: Mapping[str, Value]) -> str:
    """Return changes in words: `Spaces on, First provider: Models on this machine`."""
    words = []
    for key, value in changes.items():
        if key in PICKS:
            label, choices = PICKS[key]
            words.append(f"{label}: {dict(choices).get(str(value), value)}")
        else:
            words.append(f"{LABELS.get(key, key)} {'on' if value else 'off'}")
    return ", ".join(words)


async def foresee(
    gateway: GatewayClient, what: str, changes: Mapping[str, Any], notes: tuple[str, ...] = ()
) -> Effects:
    """Return what changes would have meant for the last hour's requests."""
    found = await gateway.ask("POST", "/admin/flags/preview", {"changes": changes})
    return effects(what, found, notes)


def effects(what: str, found: Mapping[str, Any], notes: tuple[str, ...] = ()) -> Effects:
    """Return the gateway's preview in words."""
    requests, elsewhere = int(found["requests"]), int(found["elsewhere"])
    if not requests:
        words = "No request in the last hour, so nothing would have gone elsewhere."
        return Effects(what, words, notes=notes)
    words = (
        f"{elsewhere / requests:.0%} of the last hour's {requests} requests would have gone"
        " elsewhere."
    )
    refused = f"{int(found['refused'])} would have been refused." if found["refused"] else ""
    moves = list(found["moves"])
    listed = [f"{int(m['requests'])}: {m['from']} → {m['to']}" for m in moves[:_LISTED]]
    if len(moves) > _LISTED:
        rest = sum(int(move["requests"]) for move in moves[_LISTED:])
        listed.append(f"{rest} in {len(moves) - _LISTED} other ways")
    return Effects(what, words, refused, tuple(listed), notes)


def history(
    entries: Sequence[Mapping[str, Any]], flags: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """Return the last changes; only one whose switches did not change since can be reverted."""
    now = {row["key"]: row["definition"] for row in flags}
    return [
        Change(
            int(entry["sequence"]), float(entry["created_at"]), str(entry["actor"]),
            change_words(entry),
            entry["action"] != "flags.override"
            and all(now.get(key) == after for key, after in (entry["after"] or {}).items()),
        )
        for entry in entries
    ]  # fmt: skip


def change_words(entry: Mapping[str, Any]) -> str:
    """Return one audited change of switches in words: what it was, and what it is."""
    if entry["action"] == "flags.override":
        _, key, *whom = str(entry["subject"]).split("/")
        after = entry["after"] or "no exception"
        return f"{LABELS.get(key, key)}: {after} for {' '.join(whom)}"
    before = entry["before"] or {}
    words = [
        f"{_label(key)}: {_side(key, before.get(key))} → {_side(key, after)}"
        for key, after in (entry["after"] or {}).items()
    ]
    return ("Reverted. " if entry["action"] == "flags.revert" else "") + ", ".join(words)


def _label(key: str) -> str:
    return PICKS[key][0] if key in PICKS else LABELS.get(key, key)


def _side(key: str, definition: Mapping[str, Any] | None) -> str:
    if definition is None:
        return "not set"
    if definition.get("targeting"):
        return share_words(definition["targeting"])
    value = value_of(definition)
    if isinstance(value, bool):
        return "on" if value else "off"
    return dict(PICKS[key][1]).get(value, value) if key in PICKS else value
