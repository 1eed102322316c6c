"""Choose the sentences of passages that answer a question, as they stand.

A sentence scores by the rare words it shares with the question and by whether it holds what the
question asks for: a number for "how many", a time for "when", a name for "who". Left out: wording.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.learning.company.retrieval import Ranked, Weights
from triptych.learning.company.words import terms
from triptych.wire.evidence import Passage

_ABBREVIATION = re.compile(r"\b(?:[A-Z]|e\.g|i\.e|etc|vs|Mr|Mrs|Ms|Dr|No|Nr|approx|incl|St)\.$")
_END = re.compile(r"[.!?。]+[\"')\]]*(?=\s)|\n+")
_NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty)\b", re.I
)
_TIME = re.compile(
    r"\d|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|june|july|august|"
    r"september|october|november|december|daily|weekly|monthly|annual|year|week|hour|after|before|every\b",
    re.I,
)
_NAME = re.compile(
    r"(?<=\w[ ,])[A-Z][a-z]+|@|\b(?:lead|manager|team|director|officer|HR|owner|engineer)", re.I
)
_LONGEST = 600
_ASKED = (
    (re.compile(r"\bhow (?:many|much|long|often|far|old|big)\b|\bwhat (?:share|number)\b", re.I),
     _NUMBER),
    (re.compile(r"\bwhen\b|\bwhat (?:time|date|day)\b|\bdeadline\b", re.I), _TIME),
    (re.compile(r"\bwho(?:m|se)?\b", re.I), _NAME),
)  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage. `start` is its character offset in the passage."""

    text: str
    start: int
    passage: Passage
    score: float
    coverage: float


def split(text: str) -> list[tuple[int, str]]:
    """Return the sentences of a text with their offsets; list items and rows are sentences."""
    found = []
    start = 0
    for match in _END.finditer(text):
        if match.group()[0] == "." and _ABBREVIATION.search(text[start : match.end()]):
            continue
        found.append((start, text[start : match.end()]))
        start = match.end()
    found.append((start, text[start:]))
    sentences = []
    for at, piece in found:
        lead = len(piece) - len(piece.lstrip())
        if piece.strip():
            sentences.append((at + lead, piece.strip()))
    return sentences


def best_sentences(
    question: str, ranked: Sequence[Ranked], weights: Weights, *, most: int = 2
) -> list[Sentence]:
    """Return the sentences that answer best, at most `most`, in order of their score.

    A second one is taken only where it brings words of the question that the first lacks.
    """
    wanted = [pattern for asks, pattern in _ASKED if asks.search(question)]
    scored = []
    for position, one in enumerate(ranked):
        above = set(terms(" ".join((one.passage.title, *one.passage.headings))))
        for start, text in split(one.passage.text):
            if len(text) > _LONGEST:
                text = text[:_LONGEST].rsplit(" ", 1)[0]
            own = set(terms(text))
            if not own:
                continue
            coverage = weights.share(own)
            score = coverage + 0.35 * weights.share(above - own) + 0.25 * one.score
            score += 0.3 * sum(bool(pattern.search(text)) for pattern in wanted)
            # A question in the text is not its answer; neither is a heading-like line.
            score -= 0.5 * text.endswith("?") + 0.2 * (len(text.split()) < 4)
            score -= 0.03 * position
            scored.append(Sentence(text, start, one.passage, score, coverage))
    scored.sort(key=lambda sentence: (-sentence.score, sentence.passage.id, sentence.start))
    chosen: list[Sentence] = []
    known: set[str] = set()
    for sentence in scored[:20]:
        stems = set(terms(sentence.text)) & set(weights.of)
        if chosen and (
            weights.share(known | stems) - weights.share(known) < 0.15
            or sentence.score < 0.6 * chosen[0].score
        ):
            continue
        chosen.append(sentence)
        known |= stems
        if len(chosen) == most:
            break
    return chosen
