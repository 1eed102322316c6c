"""Count votes into what may be said: nothing below k companies, nothing that subtraction reveals.

A pure function of the contributions, so a company that is left out leaves no trace in the result.
Left out: which companies count (`register`) and wording (`cards`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from triptych.errors import LearningError
from triptych.learning.abstraction.vocabulary import Practice, Vocabulary

FLOOR = 3
Dimension = Literal["all", "industry", "size"]


@dataclass(frozen=True)
class Rules:
    """The limits of a release.

    `k` companies at least stand behind every figure; a company counts for at most `most_practices`
    practices, and for at most `evidence_cap` passages of each; no company may have more than
    `dominance` of the passages behind a value.
    """

    k: int = 5
    most_practices: int = 60
    evidence_cap: int = 3
    dominance: float = 0.5

    def __post_init__(self) -> None:
        if self.k < FLOOR:
            raise LearningError(f"k = {self.k} is below the floor", hint=f"choose {FLOOR} or more")
        if self.most_practices < 1 or self.evidence_cap < 1 or not 0 < self.dominance <= 1:
            raise LearningError("the rules of a release have positive limits")


@dataclass(frozen=True)
class Contribution:
    """What one company gives: a value and a number of passages for each practice, no text."""

    company: str
    votes: Mapping[str, str]
    evidence: Mapping[str, int] = field(default_factory=dict)
    industry: str = ""
    size: str = ""


@dataclass(frozen=True)
class Support:
    """How many companies have a value. With `at_least`, the true figure may be higher."""

    value: str
    companies: int
    at_least: bool = False


@dataclass(frozen=True)
class Line:
    """What may be said of one practice among the `companies` of a segment."""

    practice: str
    dimension: Dimension
    segment: str
    companies: int
    supports: tuple[Support, ...]


def bounded(contribution: Contribution, rules: Rules) -> dict[str, str]:
    """Return the votes that count: those with most passages, where a company has too many."""
    votes = contribution.votes
    if len(votes) <= rules.most_practices:
        return dict(votes)
    ranked = sorted(votes, key=lambda one: (-contribution.evidence.get(one, 1), one))
    return {one: votes[one] for one in sorted(ranked[: rules.most_practices])}


def count(
    contributions: Iterable[Contribution], vocabulary: Vocabulary, rules: Rules
) -> list[Line]:
    """Return every line that may be published, in the order of the vocabulary."""
    present = sorted(contributions, key=lambda one: one.company)
    tables = _tables(present, rules)
    totals = {
        "industry": Counter(one.industry for one in present),
        "size": Counter(one.size for one in present),
    }
    lines: list[Line] = []
    for practice in vocabulary.practices:
        cells = tables.get(practice.id)
        if cells is None:
            continue
        whole = _line(practice, "all", "", len(present), cells[("all", "")], rules)
        if whole is None:
            continue
        lines.append(whole)
        for dimension, known in (
            ("industry", vocabulary.industries),
            ("size", vocabulary.sizes),
        ):
            lines += _segments(practice, dimension, known, totals[dimension], cells, rules)
    return lines


_Cells = dict[tuple[str, str], dict[str, list[int]]]


def _tables(present: Sequence[Contribution], rules: Rules) -> dict[str, _Cells]:
    """Return, by practice, segment and value, the capped passages of each company."""
    tables: dict[str, _Cells] = {}
    for one in present:
        for practice, value in bounded(one, rules).items():
            passages = min(one.evidence.get(practice, 1), rules.evidence_cap)
            cells = tables.setdefault(practice, defaultdict(lambda: defaultdict(list)))
            for segment in (("all", ""), ("industry", one.industry), ("size", one.size)):
                cells[segment][value].append(passages)
    return tables


def _line(
    practice: Practice,
    dimension: Dimension,
    segment: str,
    companies: int,
    values: Mapping[str, list[int]],
    rules: Rules,
) -> Line | None:
    supports = []
    for value in practice.values:
        passages = values.get(value, [])
        if len(passages) < rules.k or max(passages) > rules.dominance * sum(passages):
            continue
        # The companies without the value are a group too: below k of them, how many is not said.
        if companies - len(passages) < rules.k:
            least = max(rules.k, companies - rules.k + 1)
            supports.append(Support(value, least, at_least=True))
        else:
            supports.append(Support(value, len(passages)))
    if not supports:
        return None
    supports.sort(key=lambda one: (-one.companies, practice.values.index(one.value)))
    return Line(practice.id, dimension, segment, companies, tuple(supports))


def _segments(
    practice: Practice,
    dimension: str,
    known: Sequence[str],
    totals: Mapping[str, int],
    cells: _Cells,
    rules: Rules,
) -> Iterator[Line]:
    """Yield a line for each segment, or none at all where one of them is too small.

    The whole less the published segments would be the figure of the one held back.
    """
    if len(totals) < 2 or any(
        segment not in known or companies < rules.k for segment, companies in totals.items()
    ):
        return
    found = []
    kind: Dimension = "industry" if dimension == "industry" else "size"
    for segment in known:
        if segment not in totals:
            continue
        values = cells.get((dimension, segment), {})
        line = _line(practice, kind, segment, totals[segment], values, rules)
        if line is None:
            return
        found.append(line)
    shown = [{one.value for one in line.supports} for line in found]
    if all(values == shown[0] for values in shown):
        yield from found
