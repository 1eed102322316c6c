"""The abstraction tier's `KnowledgeSource`: evidence from the cards, and a check of wording.

The release is read again when another one is served. Left out: the gateway, to which it is handed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from triptych.errors import LearningError
from triptych.learning.abstraction.answering import Answer, Index, answer
from triptych.learning.abstraction.cards import Card
from triptych.learning.abstraction.gates import Gates, public_words
from triptych.learning.abstraction.releases import Release, Releases
from triptych.learning.abstraction.vocabulary import Vocabulary
from triptych.learning.company.words import STOP_WORDS, words
from triptych.wire.evidence import Checked, Citation, Evidence, Passage, RefusalReason

_MARK = re.compile(r"\s*\[(\d+)\]")
# Words of plain wording that carry no fact of a company.
_WORDING = STOP_WORDS | frozenset(
    """
    typically usually generally often mostly majority half nearly almost around most many few both
    while whereas however such as according data cards card pattern patterns shows show shown found
    report reported reports common commonly widely widespread rare rarely practice practices similar
    companies company businesses organisations business answer question summary overall means there
    therefore these include including includes following first second third one two three four five
    """.split()  # noqa: SIM905
)


class Contributors(Protocol):
    """Know the companies that contribute, and their own votes."""

    def votes(self, company_id: str) -> Mapping[str, str] | None:
        """Return a contributing company's own votes; None for any other company."""
        ...


class PatternSource:
    """Answer from the release that is served.

    Contributing companies only; every company while `is_open` returns True (an administrator's
    rule).
    """

    def __init__(
        self,
        releases: Releases,
        vocabulary: Vocabulary,
        contributors: Contributors,
        *,
        is_open: Callable[[], bool] = lambda: False,
    ) -> None:
        self._releases = releases
        self._vocabulary = vocabulary
        self._contributors = contributors
        self._is_open = is_open
        self._index = Index(vocabulary)
        self._release: Release | None = None
        self._public, self._numbers = public_words(vocabulary)

    async def find(
        self,
        question: str,
        history: Sequence[Mapping[str, Any]],
        company_id: str | None,
        user_id: str | None,
    ) -> Evidence | None:
        """Return the cards that answer a question; None where the company may not read them."""
        own = None
        if company_id is not None:
            own = await asyncio.to_thread(self._contributors.votes, company_id)
        if own is None and not self._is_open():
            return None
        release = await asyncio.to_thread(self._served)
        said = answer(question, release, self._index, own)
        return _evidence(question, said, release)

    def _served(self) -> Release | None:
        """Return the release that is served, loaded once for each number."""
        number = self._releases.served()
        if number is None:
            self._release = None
        elif self._release is None or self._release.number != number:
            try:
                self._release = self._releases.load(number)
            except LearningError:
                # A withdrawal may remove it between the two reads; then none is served.
                if self._releases.served() == number:
                    raise
                self._release = None
        return self._release

    def check(self, text: str, evidence: Evidence) -> Checked:
        """Return the text where all its words are public or the question's, all numbers the cards'.

        Words that k companies use are not allowed here: a company could find out whether another
        one uses a word by asking about it.
        """
        asked = frozenset(words(evidence.question))
        gates = Gates(self._public | _WORDING | asked, self._numbers, k=1)
        problems = gates.problems(_MARK.sub("", text), _counts(evidence))
        if problems:
            return Checked(evidence.answer, evidence.citations, False, tuple(problems))
        return Checked(text, evidence.citations, True)

    async def close(self) -> None:
        """Do nothing: a release is read whole and held by no file."""


def _evidence(question: str, said: Answer, release: Release | None) -> Evidence:
    name = release.name if release is not None else ""
    details = {"practices": list(said.practices), "own": dict(said.own)}
    if said.refused:
        reason: RefusalReason = "nothing_indexed" if release is None else "nothing_found"
        return Evidence(
            question, said.text, refused=reason, confidence=said.confidence, release=name,
            details=details,
        )  # fmt: skip
    citations = tuple(
        Citation(mark, card.text, _passage(card, name)) for mark, card in enumerate(said.cards, 1)
    )
    text = said.text
    for citation in citations:
        text = text.replace(citation.quote, f"{citation.quote} [{citation.mark}]", 1)
    return Evidence(
        question, text, citations, tuple(one.passage for one in citations), None, said.confidence,
        name, details,
    )  # fmt: skip


def _passage(card: Card, release: str) -> Passage:
    """Return a card as a passage of the release."""
    return Passage(
        id=card.id, document="patterns", version=release, title="Patterns across companies",
        headings=(card.topic,), page=None, start=0, end=len(card.text), text=card.text,
    )  # fmt: skip


def _counts(evidence: Evidence) -> list[int]:
    return [int(one) for passage in evidence.passages for one in re.findall(r"\d+", passage.text)]
