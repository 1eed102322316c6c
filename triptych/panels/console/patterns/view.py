"""What the pages of patterns show: releases, the audit with its limits, coverage, own practices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.learning.abstraction.audit.exposure import CONTROL_BITS, MEAN_LIMIT_BITS
from triptych.learning.abstraction.build import Home
from triptych.learning.abstraction.cards import Card, value_text
from triptych.learning.abstraction.companies import Reading
from triptych.learning.abstraction.register import Member
from triptych.learning.abstraction.releases import Release
from triptych.panels.console.times import when
from triptych.panels.web.tables import Row, Table

_SENTENCES = 2


@dataclass(frozen=True)
class Given:
    """A practice of a company: what would leave, the sentences that stay, whether it is struck."""

    practice: str
    words: str
    topic: str
    sentences: tuple[str, ...]
    struck: bool


@dataclass(frozen=True)
class Topic:
    """The cards of one topic, as text with its support in percent."""

    name: str
    cards: tuple[tuple[str, float], ...]


def releases(home: Home) -> Table:
    """Return every release, newest first."""
    served = home.releases.served()
    rows = []
    for entry in reversed(home.releases.entries()):
        number, is_published = entry["number"], "cards" in entry
        state = "served" if is_published and number == served else entry["what"]
        mark = "good" if state == "served" else ""
        rows.append(
            Row((number, when(entry["at"]), state, entry.get("cards"), entry.get("companies")),
                mark=mark)
        )  # fmt: skip
    return Table(
        "Releases", ("Release", "When", "State", "Cards", "Companies counted"), tuple(rows),
        empty="No release yet.", numbers=frozenset({3, 4}),
    )  # fmt: skip


def audit(report: Mapping[str, Any]) -> Table:
    """Return what the audit of a release measured, beside its limits."""
    measured = report["measured"]
    real, control = measured["canaries"], measured["canaries_control"]
    rows = (
        ("Planted secrets that came out", f"{measured['secrets_leaked']} of "
         f"{measured['secrets_planted']}", "0"),
        ("Groups of colluding companies that published a secret",
         f"{measured['collusion_leaks']} of {measured['collusion_scenarios']}", "0"),
        ("Patterns below the least support that were published",
         str(measured["patterns_below_k"]), "0"),
        ("Patterns with enough support that came out",
         f"{measured['patterns_recovered']} of {measured['patterns_with_support']}", "95%"),
        ("Guess of who withdrew", f"{measured['withdrawal_guess']:.0%}", "about 50% (chance)"),
        ("The same without cohorts: must be high", f"{measured['withdrawal_guess_control']:.0%}",
         "a control"),
        ("Exposure of canaries", f"{real['mean_bits']:.2f} bits",
         f"at most {MEAN_LIMIT_BITS:g} bits"),
        ("The same of a leaky model: must be high", f"{control['mean_bits']:.1f} bits",
         f"at least {CONTROL_BITS:g} bits"),
    )  # fmt: skip
    return Table(
        "Audit", ("Attack", "Result", "Limit"), tuple(Row(row) for row in rows), stack=True
    )


def coverage(home: Home, release: Release | None) -> Table:
    """Return how many practices of each topic have a card, and their widest support."""
    known = Counter(one.topic for one in home.vocabulary.practices)
    cards: dict[str, list[Card]] = defaultdict(list)
    for card in release.cards if release else ():
        if card.dimension == "all":
            cards[card.topic].append(card)
    rows = tuple(
        Row((
            topic, f"{len(cards[topic])} of {count}",
            max((max(one.companies for one in card.supports) for card in cards[topic]), default=0),
        ))
        for topic, count in known.items()
    )  # fmt: skip
    return Table(
        "Coverage by topic", ("Topic", "Practices with a card", "Most companies behind one"), rows,
        numbers=frozenset({1, 2}), stack=True,
    )  # fmt: skip


def contributors(home: Home, names: Mapping[str, str]) -> Table:
    """Return who contributes, for administrators only."""
    rows = tuple(
        Row((
            names.get(one.name, one.name), one.industry, one.size,
            "counted" if one.cohort else "waiting",
            "yes" if home.companies.has(one.id) else "at the next build", len(one.struck),
        ))
        for one in home.register.in_order()
    )  # fmt: skip
    return Table(
        "Companies that agreed",
        ("Company", "Industry", "Size", "State", "Documents read", "Practices left out"), rows,
        empty="No company agreed yet. Each company agrees on its own page of patterns.",
        numbers=frozenset({5}), stack=True,
    )  # fmt: skip


def given(reading: Reading, home: Home, struck: Sequence[str]) -> tuple[Given, ...]:
    """Return a company's practices with the sentences that show them."""
    found = []
    for name, vote in reading.votes.items():
        practice = home.vocabulary[name]
        sentences = [reading.sentences[f"{name}/{one}"] for one in vote.passages[:_SENTENCES]]
        words = value_text(practice, vote.value)
        found.append(Given(name, words, practice.topic, tuple(sentences), name in struck))
    return tuple(sorted(found, key=lambda one: (one.topic, one.words)))


def topics(release: Release) -> tuple[Topic, ...]:
    """Return the cards over all companies, by topic, each with its widest support."""
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for card in release.cards:
        if card.dimension == "all":
            most = max(one.companies for one in card.supports)
            found[card.topic].append((card.text, round(100 * most / card.companies, 1)))
    return tuple(Topic(name, tuple(cards)) for name, cards in found.items())


def state(member: Member | None, home: Home) -> str:
    """Return where a company stands, in one sentence."""
    if member is None:
        return "This company contributes nothing."
    if member.cohort:
        return "This company is counted in the releases."
    waiting = sum(not one.cohort for one in home.register.in_order())
    if not home.companies.has(member.id):
        return "This company agreed. Its documents are read at the next build."
    missing = max(0, home.rules.k - waiting)
    more = f" {missing} more companies are needed." if missing else ""
    return (
        f"This company agreed and waits: companies enter {home.rules.k} at a time, so that no"
        f" single one shows.{more}"
    )
