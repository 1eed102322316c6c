"""What the pages of feedback show: filters, the list, and one entry beside its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel

from triptych.panels.console.accounts import ANY, Accounts
from triptych.panels.console.times import when
from triptych.panels.web.forms import Field, FormSpec
from triptych.panels.web.tables import Row, Table

PATH = "/console/feedback"
KINDS = {
    "thumb": "right or wrong",
    "rating": "rating of 1 to 5",
    "correction": "corrected answer",
    "comment": "comment",
    "preference": "preferred answer",
    "automatic": "automatic check",
}
LABELS = {
    "positive": "good",
    "negative": "bad",
    "neutral": "neutral",
    "modified": "answer was edited (preference)",
}
MARKS = {"positive": "good", "negative": "bad"}
COLUMNS = ("When", "Kind", "What was said", "Counts as", "By", "Company", "Model")
_SHORT = 120


class Filters(BaseModel):
    """Which feedback is listed."""

    kind: str = ""
    company_id: str = ""


FILTERS = FormSpec(
    Filters,
    (
        Field("kind", "Kind", "pick", choices=(ANY, *KINDS.items())),
        Field("company_id", "Company", "pick"),
    ),
)


@dataclass(frozen=True)
class Entry:
    """One feedback: facts about it, and what was said in full."""

    feedback_id: str
    request_id: str
    path: str
    said: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]


def listed(
    rows: Sequence[Mapping[str, Any]], end: float | None, typed: Mapping[str, Any],
    accounts: Accounts,
) -> Table:  # fmt: skip
    """Return a page of feedback, newest first."""
    kept = {name: value for name, value in typed.items() if value}
    return Table(
        "Feedback",
        COLUMNS,
        tuple(_row(row, accounts) for row in rows),
        empty="No feedback yet. Members give it in Ask and in the Playground.",
        more=f"{PATH}?{urlencode({**kept, 'before': end})}" if end else "",
        stack=True,
    )


def _row(row: Mapping[str, Any], accounts: Accounts) -> Row:
    whole = " / ".join(text for _, text in said(row))
    cells = (
        when(row["created_at"]),
        KINDS.get(row["kind"], row["kind"]),
        whole if len(whole) <= _SHORT else f"{whole[:_SHORT]}…",
        LABELS.get(row["label"], row["label"]),
        row["author"],
        accounts.company(row["company_id"]),
        row["model"],
    )
    return Row(cells, href=address(row), mark=MARKS.get(row["label"], ""))


def address(row: Mapping[str, Any]) -> str:
    """Return where one feedback is shown; the request is named because lists are found by it."""
    query = {"request": row["request_id"] or "", "company": row["company_id"] or ""}
    return f"{PATH}/{row['feedback_id']}?{urlencode(query)}"


def said(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was said, as named parts."""
    value = row["value"]
    if row["kind"] == "thumb":
        return [("Said", "right" if value else "wrong")]
    if row["kind"] == "preference" and isinstance(value, Mapping):
        names = {"chosen": "Preferred", "rejected": "Not preferred", "prompt": "Question"}
        return [(words, str(value[name])) for name, words in names.items() if name in value]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [("Correction" if row["kind"] == "correction" else "Said", text)]


def entry(row: Mapping[str, Any], accounts: Accounts) -> Entry:
    """Return one feedback in full."""
    facts = {
        "Kind": KINDS.get(row["kind"], row["kind"]),
        "Counts as": LABELS.get(row["label"], row["label"]),
        "By": row["author"],
        "When": when(row["created_at"]),
        "Company": accounts.company(row["company_id"]),
        "Model": row["model"],
        "Revision": row["revision"],
        "Version": row["version"],
    }
    shown = tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))
    return Entry(
        str(row["feedback_id"]), str(row["request_id"] or ""), address(row), tuple(said(row)), shown
    )
