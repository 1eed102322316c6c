"""Answer from the cards: how many companies do what, or that not enough of them agree to say.

The table answers; a model may word it, and its words are shown only where every one of them and
every number is in the release. Left out: the gateway, which calls the model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from triptych.learning.abstraction.cards import Card, support_text, value_text
from triptych.learning.abstraction.releases import Release
from triptych.learning.abstraction.vocabulary import Practice, Vocabulary
from triptych.learning.company.words import terms

MOST_CARDS = 4
NOT_ENOUGH = "Not enough companies agree to say."
UNKNOWN = "The vocabulary of practices holds nothing on this question."
NO_RELEASE = "There is no release of patterns yet."
# Words of the question about others, not about a practice.
_ASKING = frozenset(
    terms(
        """
        how what which do does other others company companies similar typical usually handle many
        most compare common practice practices like us business businesses firms people team teams
        organisation organisations kind use have run work tell industry usual normal elsewhere long
        often frequently allow offer there anyone else everyone new measure approach
        rule policy process thing way handling
        """
    )
)
_LEAST_SHARE = 0.34


@dataclass(frozen=True)
class Answer:
    """What the table says. `refused` is set where it says nothing."""

    text: str
    cards: tuple[Card, ...] = ()
    practices: tuple[str, ...] = ()
    refused: bool = False
    confidence: float = 0.0
    own: Mapping[str, str] = field(default_factory=dict)


class Index:
    """Find the practices that a question is about, by words."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.practices = vocabulary.practices
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, practice in enumerate(self.practices):
            weights: dict[str, float] = {}
            shown = "" if practice.kind == "yes_no" else " ".join(practice.values)
            for weight, text in ((1.0, f"{practice.text} {practice.words} {shown}"),
                                 (0.5, practice.topic)):  # fmt: skip
                for term in set(terms(text)) - _ASKING:
                    weights[term] = max(weights.get(term, 0.0), weight)
            for term, weight in weights.items():
                self._postings[term].append((place, weight))

    def find(self, question: str) -> list[tuple[Practice, float]]:
        """Return practices with the share of the question's words that they hold, best first."""
        wanted = list(dict.fromkeys(term for term in terms(question) if term not in _ASKING))
        if not wanted:
            return []
        count = len(self.practices)
        # A word that no practice has counts as a rare one: the question is about something else.
        rarity = {
            term: math.log(1 + count / (1 + len(self._postings.get(term, ())))) for term in wanted
        }
        total = sum(rarity.values())
        scores: dict[int, float] = defaultdict(float)
        for term in wanted:
            for place, weight in self._postings.get(term, ()):
                scores[place] += weight * rarity[term]
        ranked = sorted(scores.items(), key=lambda one: (-one[1], one[0]))
        return [(self.practices[place], score / total) for place, score in ranked]


def answer(
    question: str,
    release: Release | None,
    index: Index,
    own: Mapping[str, str] | None = None,
    segment: str = "",
) -> Answer:
    """Return what the table says on a question.

    `own` are the caller's company's votes; they are shown to the caller only. With `segment`, cards
    of that industry or size are preferred.
    """
    if release is None:
        return Answer(NO_RELEASE, refused=True)
    found = [(one, score) for one, score in index.find(question) if score >= _LEAST_SHARE]
    if not found:
        return Answer(UNKNOWN, refused=True)
    best = found[0][1]
    by_practice: dict[str, list[Card]] = defaultdict(list)
    for card in release.cards:
        by_practice[card.practice].append(card)
    # Of practices that fit as well, those with a card come first.
    near = [one for one in found if one[1] >= 0.6 * best]
    near.sort(key=lambda one: (-round(one[1], 6), one[0].id not in by_practice))
    practices = [one for one, _ in near[:MOST_CARDS]]
    chosen, lines = [], []
    positions: dict[str, str] = {}
    for practice in practices:
        cards = by_practice.get(practice.id, [])
        # The card of the segment first, then the one of all companies.
        fitting = [one for one in cards if segment and one.segment == segment]
        fitting += [one for one in cards if one.dimension == "all"]
        if not fitting:
            continue
        card = fitting[0]
        chosen.append(card)
        lines.append(card.text)
        if own is not None:
            positions[practice.id] = _position(practice, card, own.get(practice.id))
            lines.append(positions[practice.id])
    names = tuple(one.id for one in practices)
    if not chosen:
        topics = ", ".join(dict.fromkeys(one.topic for one in practices))
        return Answer(f"{NOT_ENOUGH} (Topic: {topics}.)", (), names, True, min(1.0, best))
    return Answer("\n".join(lines), tuple(chosen), names, False, min(1.0, best), positions)


def compare(question: str, before: Release, after: Release, index: Index) -> str:
    """Return how the supports of a question's practices changed between two releases."""
    practices = [one for one, score in index.find(question) if score >= _LEAST_SHARE][:MOST_CARDS]
    lines = []
    for practice in practices:
        old, new = (
            next((card for card in release.cards if card.id == f"{practice.id}/all"), None)
            for release in (before, after)
        )
        if old is None or new is None:
            continue
        was = {one.value: support_text(one, old.companies) for one in old.supports}
        for one in new.supports:
            if one.value in was:
                now = support_text(one, new.companies)
                said = value_text(practice, one.value)
                lines.append(f"{said}: {now} companies (release {before.number}: {was[one.value]})")
    return "\n".join(lines) or NOT_ENOUGH


def _position(practice: Practice, card: Card, value: str | None) -> str:
    if value is None:
        return "Your company: your documents do not say."
    said = f"Your company: {value_text(practice, value)}"
    if practice.kind == "yes_no":
        return f"{said}."
    same = "as the most common" if card.supports[0].value == value else "not the most common"
    return f"{said} ({same})."
