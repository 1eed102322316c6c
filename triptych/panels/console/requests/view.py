"""What the pages of requests show: filters, rows of the list, and one whole record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel

from triptych.panels.console.accounts import ANY, Accounts
from triptych.panels.console.times import when
from triptych.panels.console.words import FAILURES, KINDS, OUTCOMES, outcome, words
from triptych.panels.gateway_client import segment
from triptych.panels.web.forms import Field, FormSpec
from triptych.panels.web.tables import Row, Table
from triptych.wire.tiers import TIERS

PATH = "/console/requests"
SPANS_S = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0}
MARKS = {"ok": "good", "cancelled": "warn", "interrupted": "warn", "refused": "warn"}
NUMBERS = frozenset({5, 6})
COLUMNS = ("When", "Who", "Tier", "Answered by", "Outcome and why", "Tokens", "Time, ms")


class Filters(BaseModel):
    """Which requests are listed."""

    since: str = "day"
    outcome: str = ""
    tier_asked: str = ""
    provider: str = ""
    company_id: str = ""
    user_id: str = ""
    key_id: str = ""
    error_code: str = ""


FILTERS = FormSpec(
    Filters,
    (
        Field("since", "Since", "pick", choices=(
            ("hour", "Last hour"), ("day", "Last day"), ("week", "Last week"), ("ever", "Ever"),
        )),
        Field("outcome", "Outcome", "pick", choices=(ANY, *OUTCOMES.items())),
        Field("tier_asked", "Tier", "pick", choices=(ANY, *((tier, tier) for tier in TIERS))),
        Field("provider", "Provider", "pick", choices=(ANY, *KINDS.items())),
        Field("company_id", "Company", "pick"),
        Field("user_id", "User", "pick"),
        Field("key_id", "Key", "pick"),
        Field("error_code", "Cause", "pick", choices=(
            ANY, *sorted(FAILURES.items(), key=lambda one: one[1]),
        )),
    ),
)  # fmt: skip


def asked(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters as the gateway's query."""
    span = SPANS_S.get(str(typed.get("since") or "day"))
    kept = {name: value for name, value in typed.items() if name != "since" and value}
    return {**kept, "since": time.time() - span if span else None}


def listed(
    rows: Sequence[Mapping[str, Any]],
    following: str | None,
    typed: Mapping[str, Any],
    accounts: Accounts,
) -> Table:
    """Return a page of requests, newest first."""
    kept = {name: value for name, value in typed.items() if value}
    more = f"{PATH}?{urlencode({**kept, 'after': following})}" if following else ""
    return Table(
        "Requests",
        COLUMNS,
        tuple(_row(row, accounts) for row in rows),
        empty="No request matches these filters.",
        numbers=NUMBERS,
        more=more,
        stack=True,
    )


def _row(row: Mapping[str, Any], accounts: Accounts) -> Row:
    cells = (
        when(row["created_at"]),
        who(row, accounts),
        tiers(row),
        answered_by(row),
        outcome(row, accounts.providers),
        (row["input_tokens"] or 0) + (row["output_tokens"] or 0),
        milliseconds(row["latency_s"]),
    )
    mark = MARKS.get(row["outcome"], "bad")
    return Row(cells, href=f"{PATH}/{segment(row['request_id'])}", mark=mark)


def who(row: Mapping[str, Any], accounts: Accounts) -> str:
    """Return the user, or the key's name, and the company."""
    key = row.get("key_id") or ""
    name = row.get("user_id") or accounts.key(key) or "without a key"
    company = row.get("company_id")
    return f"{name}, {accounts.company(company)}" if company else str(name)


def tiers(row: Mapping[str, Any]) -> str:
    """Return the tier, and what served in its place."""
    wanted, served = row["tier_asked"], row.get("tier_served")
    return str(wanted) if served in (wanted, None) else f"{wanted} → {served}"


def answered_by(row: Mapping[str, Any]) -> str:
    """Return the model and its provider."""
    where = row.get("upstream") or KINDS.get(row.get("provider") or "", row.get("provider"))
    return (
        f"{row['model']} at {where}" if row.get("model") and where else str(where or "no provider")
    )


def milliseconds(seconds: float | None) -> str:
    """Return a time in whole milliseconds."""
    return "" if seconds is None else f"{seconds * 1000:,.0f}"


@dataclass(frozen=True)
class Attempt:
    """One call of a provider; `left` and `width` are its place on the time axis, in percent."""

    words: str
    mark: str
    left: float
    width: float
    ms: str


@dataclass(frozen=True)
class Record:
    """One request's whole record: groups of facts, its attempts, and what was said about it."""

    request_id: str
    sentence: str
    mark: str
    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    attempts: tuple[Attempt, ...]
    switches: tuple[tuple[str, str], ...]
    feedback: tuple[tuple[str, str], ...]


def record(
    request: Mapping[str, Any], feedback: Sequence[Mapping[str, Any]], accounts: Accounts
) -> Record:
    """Return the whole record of a request."""
    ended = outcome(request, accounts.providers)
    return Record(
        str(request["request_id"]),
        f"{ended[:1].upper()}{ended[1:]}.",
        MARKS.get(request["outcome"], "bad"),
        tuple((title, _known(facts)) for title, facts in _groups(request, accounts).items()),
        tuple(_attempts(request)),
        tuple((key, str(value)) for key, value in sorted((request.get("flags") or {}).items())),
        tuple((f"{row['kind']} by {row['author']}", str(row["value"])) for row in feedback),
    )


def _groups(request: Mapping[str, Any], accounts: Accounts) -> dict[str, dict[str, Any]]:
    evidence: Mapping[str, Any] = request.get("evidence") or {}
    key = request.get("key_id") or ""
    tokens = f"{request.get('input_tokens') or 0} in, {request.get('output_tokens') or 0} out"
    return {
        "Who": {
            "User": request.get("user_id"),
            "Company": accounts.company(request.get("company_id")),
            "Key": accounts.key(key),
            "Feature": request.get("feature"),
            "Consent": request.get("consent"),
        },
        "Decision": {
            "Model in the request": request.get("model_asked"),
            "Tier in the request": request.get("tier_asked"),
            "Tier that answered": request.get("tier_served"),
            "Why this tier": words(request.get("reason")),
            "Fallback": words(request.get("fallback_reason")),
        },
        "Result": {
            "Model": request.get("model"),
            "Revision": request.get("revision"),
            "Provider": KINDS.get(request.get("provider") or "", request.get("provider")),
            "Outcome": f"{request['outcome']}, status {request['status']}",
            "Error code": request.get("error_code"),
            "Ended because": request.get("finish_reason"),
        },
        "Tokens and time": {
            "Tokens": tokens,
            "Cost": f"${(request.get('cost_microusd') or 0) / 1e6:,.4f}",
            "Time": _ms(request.get("latency_s")),
            "Time to the first token": _ms(request.get("ttft_s")),
            "Gateway overhead": _ms(request.get("overhead_s")),
        },
        "Documents": {
            "Refused": evidence.get("refused"),
            "Confidence": evidence.get("confidence"),
            "Version of the documents": evidence.get("release"),
            "Words of": evidence.get("words"),
            "Nearest": "; ".join(map(str, evidence.get("nearest") or ())),
        },
    }  # fmt: skip


def _known(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _attempts(request: Mapping[str, Any]) -> list[Attempt]:
    tries: Sequence[Mapping[str, Any]] = request["tries"]
    start = float(request["created_at"])
    ends = [float(one["created_at"]) - start + float(one["latency_s"] or 0.0) for one in tries]
    whole = max(float(request.get("latency_s") or 0.0), *ends, 1e-3) if ends else 1.0
    found = []
    for one in tries:
        latency = float(one["latency_s"] or 0.0)
        left = min(98.0, max(0.0, (float(one["created_at"]) - start) / whole * 100))
        said = f"{one['number']}. {one['upstream']}: {OUTCOMES.get(one['outcome'], one['outcome'])}"
        if one.get("error_code"):
            said += f", {words(one['error_code'])}"
        mark = "good" if one["outcome"] == "ok" else "bad"
        width = max(1.0, min(100 - left, latency / whole * 100))
        found.append(Attempt(said, mark, round(left, 2), round(width, 2), _ms(latency)))
    return found
