"""Build a release: consent, cohorts, counts, cards, gates, the audit, and only then the release.

Everything a release depends on is read from the admitted companies and the rules, so a build
without a company is the build that never saw it. Left out: reading documents (`companies.read`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.documents import Document
from triptych.errors import LearningError
from triptych.learning.abstraction.cards import Card, render
from triptych.learning.abstraction.companies import (
    Companies,
    Reading,
    read,
    read_store,
    store_digest,
)
from triptych.learning.abstraction.consents import Consents, RecordedConsents
from triptych.learning.abstraction.counting import Contribution, Rules, count
from triptych.learning.abstraction.gates import Gates, TextProfile, card_problems, own_names
from triptych.learning.abstraction.register import Member, Register
from triptych.learning.abstraction.releases import Release, Releases
from triptych.learning.abstraction.vocabulary import Vocabulary
from triptych.learning.company.store import Store

LOCK = "lock"
Audit = Callable[[Vocabulary, Rules], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What a build did. `release` is None where nothing was published, with the `reason`."""

    release: Release | None
    reason: str
    admitted: int
    waiting: int
    held_changes: int
    gated: Mapping[str, int]
    report: Mapping[str, Any]


class Home:
    """The folder of the abstraction tier: companies, register and releases."""

    def __init__(self, folder: Path, vocabulary: Vocabulary, rules: Rules) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.vocabulary = vocabulary
        self.rules = rules
        self.companies = Companies(self.folder / "companies")
        self.register = Register(self.folder)
        self.releases = Releases(self.folder)

    def read_company(
        self, name: str, documents: Iterable[Document], digest: str = ""
    ) -> Reading | None:
        """Read a member's documents and keep what they say with the company.

        Returns: None where neither they (by their digest), the vocabulary nor the company's own
        names changed since the last reading; then no document is taken.
        """
        member = self.register[name]
        names = member.names or (name,)
        if self._is_read(member, names, digest):
            return None
        reading = read(member.id, documents, self.vocabulary, names, digest)
        self.companies.save(member.id, reading)
        return reading

    def read_store(self, name: str, store: Store) -> Reading | None:
        """Read a member's store of knowledge; None where nothing changed, as in `read_company`."""
        member = self.register[name]
        names = member.names or (name,)
        if self._is_read(member, names, store_digest(store)):
            return None
        reading = read_store(member.id, store, self.vocabulary, names)
        self.companies.save(member.id, reading)
        return reading

    def _is_read(self, member: Member, names: tuple[str, ...], digest: str) -> bool:
        known = self.companies.load(member.id) if digest else None
        now = (digest, self.vocabulary.sha256, own_names(names))
        return known is not None and (
            known.digest, known.vocabulary, known.profile.names
        ) == now  # fmt: skip

    def withdraw(self, name: str) -> list[int]:
        """Remove a company, everything it gave, and every release that counted it.

        No release is served until the next build. Returns: the releases that were removed.
        """
        member = self.register.withdraw(name)
        return self._forget(member)

    def erase_reading(self, name: str) -> list[int]:
        """Remove what was read of a company, because a document of it was erased.

        The company still agrees and is counted again once its documents are read again and it is
        admitted. Returns: the releases that were removed.
        """
        member = self.register[name]
        self.register.suspend(name)
        return self._forget(member)

    def own_votes(self, name: str) -> dict[str, str] | None:
        """Return a member's own values, without those struck out; None for any other company."""
        member = self.register.members.get(name)
        if member is None:
            return None
        votes = self.companies.votes(member.id, "current")
        return {one: value for one, value in votes.items() if one not in member.struck}

    def _forget(self, member: Member) -> list[int]:
        removed = self.releases.remove_with(member.id)
        self.companies.remove(member.id)
        self.register.save()
        return removed

    def build(self, audit: Audit, consents: Consents | None = None) -> Outcome:
        """Count, gate, audit and publish.

        Raises: LearningError where the consents cannot be read; then nothing changes.
        """
        if consents is None:
            pinned = {name: one.consent for name, one in self.register.members.items()}
            consents = RecordedConsents(pinned)
        for member in self.register.keep_only(consents.granted(list(self.register.members))):
            self._forget(member)
        held = self._admit()
        self.register.save()
        counted = self.register.counted()
        waiting = len(self.register.members) - len(counted)
        if len(counted) < self.rules.k:
            reason = f"{len(counted)} companies are counted, {self.rules.k} are needed"
            return Outcome(None, reason, len(counted), waiting, held, {}, {})
        cards, gated = self._cards(counted)
        report = audit(self.vocabulary, self.rules)
        if not report.get("passed"):
            kept = self.releases.keep_failed(report)
            reason = f"the audit stopped it: {report.get('reason', 'no reason')} ({kept.name})"
            return Outcome(None, reason, len(counted), waiting, held, gated, report)
        release = self.releases.publish(cards, self._facts(len(counted)), _lineage(counted), report)
        return Outcome(release, "", len(counted), waiting, held, gated, report)

    def _admit(self) -> int:
        """Admit waiting companies, and changes of counted ones when k companies changed.

        Returns: how many companies have changes that are held back.
        """
        changed = []
        for member in self.register.counted():
            now = self.companies.votes(member.id, "current")
            before = self.companies.votes(member.id, "admitted")
            if now != before or self._is_of_another_vocabulary(member):
                changed.append(member)
        is_applied = len(changed) >= self.rules.k
        if is_applied:
            for member in changed:
                self.companies.admit(member.id)
        unread = [
            one.name
            for one in self.register.in_order()
            if not one.cohort and not self.companies.has(one.id)
        ]
        for member in self.register.admit(self.rules.k, unread):
            self.companies.admit(member.id)
        return 0 if is_applied else len(changed)

    def _is_of_another_vocabulary(self, member: Member) -> bool:
        reading = self.companies.load(member.id, "admitted")
        return reading is None or reading.vocabulary != self.vocabulary.sha256

    def _cards(self, counted: Sequence[Member]) -> tuple[list[Card], dict[str, int]]:
        contributions = []
        for member in counted:
            reading = self.companies.load(member.id, "admitted")
            if reading is None or reading.vocabulary != self.vocabulary.sha256:
                raise LearningError(
                    f"{member.name} was read with another vocabulary",
                    hint="read every company again: triptych abstraction build --documents FOLDER",
                )
            contributions.append(contribution(member, reading))
        return gated_cards(
            contributions, lambda: self._profiles(counted), self.vocabulary, self.rules
        )

    def _profiles(self, counted: Sequence[Member]) -> list[TextProfile]:
        readings = (self.companies.load(one.id, "admitted", with_text=True) for one in counted)
        return [one.profile for one in readings if one is not None]

    def _facts(self, companies: int) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary.version,
            "vocabulary_sha256": self.vocabulary.sha256,
            "rules": asdict(self.rules),
            "companies": companies,
            "privacy": "support of at least k companies; this is not differential privacy",
        }


def contribution(member: Member, reading: Reading) -> Contribution:
    """Return what a member gives, without the practices it struck out."""
    kept = {name: vote for name, vote in reading.votes.items() if name not in member.struck}
    return Contribution(
        member.id,
        {name: vote.value for name, vote in kept.items()},
        {name: len(vote.passages) for name, vote in kept.items()},
        member.industry,
        member.size,
    )


def gated_cards(
    contributions: Sequence[Contribution],
    profiles: Callable[[], Sequence[TextProfile]],
    vocabulary: Vocabulary,
    rules: Rules,
) -> tuple[list[Card], dict[str, int]]:
    """Return the cards that pass every gate, and how many were stopped for which reason.

    The companies' texts are loaded only where a card has words that are not public: without them,
    the gates that compare with the texts pass any card.
    """
    rendered = render(count(contributions, vocabulary, rules), vocabulary)
    gates = Gates.of(vocabulary, rules.k, ())
    if not all(gates.is_public(card) for card in rendered):
        gates = Gates.of(vocabulary, rules.k, profiles())
    cards = []
    stopped: Counter[str] = Counter()
    for card in rendered:
        problems = card_problems(card, gates)
        stopped.update(problems)
        if not problems:
            cards.append(card)
    return cards, dict(stopped)


def _lineage(counted: Sequence[Member]) -> dict[str, Any]:
    return {
        "format": 1,
        "companies": {
            one.id: {"name": one.name, "consent": one.consent, "cohort": one.cohort}
            for one in counted
        },
    }
