"""Find the passages of a question: full-text candidates, ranked again by features of our own.

Candidates match any word of the question; the rank then counts which rare words a passage holds,
in its text and in its headings, and whether neighbouring words of the question stand together.
Where the company has vectors, the passages nearest in meaning are candidates too, and the cosine is
one more feature. Left out: what a question asks for (sentences.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from triptych.learning.company.search import quoted
from triptych.learning.company.store import Store
from triptych.learning.company.synonyms import SHARE, synonyms
from triptych.learning.company.tables import Found
from triptych.learning.company.vectors import Nearest, vectors_of
from triptych.learning.company.words import query_words, stem, terms
from triptych.wire.evidence import Passage

CANDIDATES = 50
# Words that stand in more than this share of the passages find nothing, and cost most of the time.
_COMMON_FRAC = 0.15
_COMMON_SYNONYM_FRAC = 0.05
# Weights of the features below, chosen by hand while looking at the handbooks of
# benchmarks/company.py; only the refusal is fitted there.
_RANK = {"bm25": 0.4, "coverage": 1.2, "heading": 0.8, "pairs": 0.4}
# Weight of the cosine, where there is one: the best of eight on clef and gds-way.
COSINE = 3.5


@dataclass(frozen=True)
class Ranked:
    """A passage with what its rank is made of; every feature lies between 0 and 1 but the score."""

    passage: Passage
    score: float
    bm25: float
    coverage: float
    heading: float
    pairs: float
    cosine: float | None = None


@dataclass(frozen=True)
class Weights:
    """How rare each stem of a question is in this company: ln(1 + N / n)."""

    of: dict[str, float]
    instead: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Stem of the question -> stems that may stand for it, at `SHARE` of its weight."""

    @property
    def total(self) -> float:
        """Return the sum over the question's stems."""
        return sum(self.of.values())

    def share(self, stems: set[str]) -> float:
        """Return the weighted share of the question's stems that are among these."""
        total = self.total
        if not total:
            return 0.0
        found = 0.0
        for one, weight in self.of.items():
            if one in stems:
                found += weight
            elif not stems.isdisjoint(self.instead.get(one, ())):
                found += SHARE * weight
        return found / total


class Retriever:
    """Search one company's store. `rarity` is cached for the version it was counted in."""

    def __init__(self, store: Store, *, url: str = "") -> None:
        self.store = store
        self.url = url
        self._rarity = lru_cache(maxsize=4096)(self._count)
        self.vectors = vectors_of(store)

    def weights(self, question: str) -> Weights:
        """Return how rare each of the question's words is."""
        version = self.store.version
        _, passages = self.store.counts()
        found: dict[str, float] = {}
        for word in query_words(question):
            count = self._rarity(word, version)
            found[stem(word)] = math.log1p(max(passages, 1) / (count + 0.5))
        instead = {
            stem(word): frozenset(stem(one) for one in synonyms(word))
            for word in query_words(question)
        }
        return Weights(found, {word: others for word, others in instead.items() if others})

    def _rare(self, words: Sequence[str], most_frac: float) -> list[str]:
        """Return the words that stand in at most this share of the passages."""
        version = self.store.version
        _, passages = self.store.counts()
        most = max(most_frac * passages, 20)
        return [word for word in words if self._rarity(word, version) <= most]

    def _count(self, word: str, _version: int) -> int:
        return self.store.passages_with(quoted(word))

    def find(
        self, question: str, groups: frozenset[str] | None, *, limit: int = 10
    ) -> tuple[list[Ranked], Weights]:
        """Return the best passages that the groups may read, best first, and the words' weights."""
        weights = self.weights(question)
        near = self._near(question, groups)
        found = self._by_words(query_words(question), groups)
        if near is not None:
            known = {one.row for one in found}
            found += [one for one in near.found if one.row not in known]
        return rank(question, found, weights, near)[:limit], weights

    def _near(self, question: str, groups: frozenset[str] | None) -> Nearest | None:
        if self.vectors is None or not question.strip():
            return None
        return self.vectors.nearest(question, groups, CANDIDATES, url=self.url)

    def _by_words(self, own: Sequence[str], groups: frozenset[str] | None) -> list[Found]:
        if not own:
            return []
        searched = self._rare(own, _COMMON_FRAC)
        match = " OR ".join(quoted(word) for word in (searched if len(searched) > 1 else own))
        found = self.store.search(match, CANDIDATES, groups, url=self.url)
        others = sorted({one for word in own for one in synonyms(word)} - set(own))
        others = self._rare(others, _COMMON_SYNONYM_FRAC)
        if others:
            # Searched apart: common synonyms would push out passages with the question's words.
            wider = " OR ".join(quoted(word) for word in (*searched, *others))
            known = {one.row for one in found}
            more = self.store.search(wider, CANDIDATES, groups, url=self.url)
            found += [one for one in more if one.row not in known]
        return found


def rank(
    question: str,
    found: Sequence[Found],
    weights: Weights,
    near: Nearest | None = None,
) -> list[Ranked]:
    """Return candidates in order of their score; equal ones in the order of their ids."""
    if not found:
        return []
    best = max(one.bm25 for one in found) or 1.0
    pairs = set(pairwise(terms(question)))
    ranked = []
    for one in found:
        body = terms(one.passage.text)
        above = set(terms(" ".join((one.passage.title, *one.passage.headings))))
        coverage = weights.share(set(body) | above)
        heading = weights.share(above)
        together = len(pairs & set(pairwise(body))) / len(pairs) if pairs else 0.0
        relative = one.bm25 / best
        score = (
            _RANK["bm25"] * relative
            + _RANK["coverage"] * coverage
            + _RANK["heading"] * heading
            + _RANK["pairs"] * together
        )
        cosine = None if near is None else near.cosine(one.row)
        score += COSINE * (cosine or 0.0)
        ranked.append(Ranked(one.passage, score, one.bm25, coverage, heading, together, cosine))
    return sorted(ranked, key=lambda one: (-one.score, one.passage.id))
