"""Pattern cards: a line of counts in words, by template.

Every word is of the vocabulary or of the templates here, every number is a count or the end of a
bucket; no company's text is read. Left out: the check of that (`gates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from triptych.learning.abstraction.counting import Line, Support
from triptych.learning.abstraction.vocabulary import NO, YES, Practice, Vocabulary

FORMAT = 1
#: Every word that a template adds to the vocabulary's own.
TEMPLATE_WORDS = """
of companies at least and most common is the practice answers say no others your company documents
do not about this in industry size with employees not enough agree to between releases was up down
does similar has it same as nearly how many
"""


@dataclass(frozen=True)
class Card:
    """What companies do about one practice, with its support. `segment` is empty for all."""

    id: str
    practice: str
    topic: str
    dimension: str
    segment: str
    companies: int
    supports: tuple[Support, ...]
    text: str

    def as_json(self) -> dict[str, Any]:
        """Return the card as plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Card:
        """Return the card that `as_json` wrote."""
        supports = tuple(Support(**one) for one in values["supports"])
        return Card(**{**values, "supports": supports})


def render(lines: Iterable[Line], vocabulary: Vocabulary) -> list[Card]:
    """Return one card for each line."""
    practices = {one.id: one for one in vocabulary.practices}
    return [_card(line, practices[line.practice]) for line in lines]


def value_text(practice: Practice, value: str) -> str:
    """Return a value as words that follow "companies"."""
    if value == YES:
        return practice.text
    if value == NO:
        return practice.no_text
    return f"{practice.text}: {value}"


def support_text(support: Support, companies: int) -> str:
    """Return a support as "9 of 13" or "at least 9 of 13"."""
    return f"{'at least ' if support.at_least else ''}{support.companies} of {companies}"


def _card(line: Line, practice: Practice) -> Card:
    where = {
        "all": "companies",
        "industry": f"companies in {line.segment}",
        "size": f"companies with {line.segment} employees",
    }[line.dimension]
    said = [
        f"{support_text(one, line.companies)} {where} {value_text(practice, one.value)}"
        for one in line.supports
    ]
    if practice.kind != "yes_no":
        first, *others = line.supports
        also = ", ".join(f"{one.value} ({support_text(one, line.companies)})" for one in others)
        said = [
            f"{practice.text}: the most common is {first.value} "
            f"({support_text(first, line.companies)} {where})"
            + (f", others: {also}" if also else "")
        ]
    text = "; ".join(said) + "."
    return Card(
        id="/".join(filter(None, (practice.id, line.dimension, line.segment))),
        practice=practice.id, topic=practice.topic, dimension=line.dimension,
        segment=line.segment, companies=line.companies, supports=line.supports,
        text=text[0].upper() + text[1:],
    )  # fmt: skip
