"""Choose the sentences of passages that answer a question, as they stand.

A sentence scores by the rare words it shares with the question and by whether it holds what the
question asks for: a number for "how many", a time for "when", a name for "who". Left out: wording.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
_ADDRESS = re.compile(r"\S@\S|https?://|\(?\d{3}\)?[ -]\d{3}|#\w|\bSlack\b")
_MONEY = re.compile(r"[$€£]\s?\d|\d+\s?(?:%|percent|euros?|dollars?|pounds?)")
_ALLOWED = re.compile(
    r"\b(?:may|must|should|can(?:not)?|never|always|only|allowed|permitted|required|not)\b", re.I
)
_TOOL = re.compile(r"(?<=\w[ ,])[A-Z][A-Za-z]+|\b(?:using|use|via)\b")
_REASON = re.compile(
    r"\b(?:because|so that|since|in order|helps?|ensures?|without|otherwise)\b", re.I
)
_LONGEST = 600
_ASKED = (
    (re.compile(r"\bhow (?:many|much|long|often|far|old|big)\b|\bwhat (?:share|number)\b", re.I),
     _NUMBER),
    (re.compile(r"\bhow much\b|\bcosts?\b|\bprice\b|\bpart of\b", re.I), _MONEY),
    (re.compile(r"\bwhen\b|\bwhat (?:time|date|day)\b|\bwhich (?:day|week)\b|\bdeadline\b|"
                r"\bhow (?:early|quickly|soon|far ahead)\b", re.I), _TIME),
    (re.compile(r"\bwho(?:m|se)?\b", re.I), _NAME),
    (re.compile(r"\b(?:mail|phone|reach|contact|send|write to|call)\b", re.I),
     _ADDRESS),
    (re.compile(r"^(?:can|may|must|should|do|does|is|are) |\b(?:can|may|should) (?:i|we)\b", re.I),
     _ALLOWED),
    (re.compile(r"\b(?:which|what) (?:\w+ )?(?:tool|app|library|system|program|manager)\b|"
                r"\bwith what\b", re.I), _TOOL),
    (re.compile(r"\bwhy\b", re.I), _REASON),
)  # fmt: skip
# A sentence takes part of what its neighbours share with the question: answers often stand next to
# the words that were asked for. Weights tuned on two handbooks, see docs/log.md.
_NEIGHBOUR = 0.3
_ASKED_FOR = 0.3
# A list that a chosen line introduces is shown with it, up to so many characters.
_LIST_CHARS = 420


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

    A second one is taken only where it brings words of the question that the first lacks, or what
    the question asks for. A line that introduces a list is returned with the list.
    """
    wanted = [pattern for asks, pattern in _ASKED if asks.search(question)]
    scored = [
        sentence
        for position, one in enumerate(ranked)
        for sentence in _scored(one, position, weights, wanted)
    ]
    scored.sort(key=lambda sentence: (-sentence.score, sentence.passage.id, sentence.start))
    chosen: list[Sentence] = []
    known: set[str] = set()
    for sentence in scored[:20]:
        stems = set(terms(sentence.text))
        if chosen and (
            weights.share(known | stems) - weights.share(known) < 0.15
            or sentence.score < 0.6 * chosen[0].score
        ):
            continue
        chosen.append(sentence)
        known |= stems
        if len(chosen) == most:
            break
    return [_with_list(sentence) for sentence in chosen]


def _scored(
    one: Ranked, position: int, weights: Weights, wanted: Sequence[re.Pattern[str]]
) -> list[Sentence]:
    above = set(terms(" ".join((one.passage.title, *one.passage.headings))))
    pieces = [(start, text, set(terms(text))) for start, text in split(one.passage.text)]
    shares = [weights.share(own) for _, _, own in pieces]
    found = []
    for number, (start, text, own) in enumerate(pieces):
        if not own:
            continue
        if len(text) > _LONGEST:
            text = text[:_LONGEST].rsplit(" ", 1)[0]
        beside = max(
            shares[max(0, number - 1) : number] + shares[number + 1 : number + 2], default=0
        )
        score = shares[number] + 0.35 * weights.share(above - own) + 0.25 * one.score
        score += _NEIGHBOUR * beside
        score += _ASKED_FOR * sum(bool(pattern.search(text)) for pattern in wanted)
        # A question in the text is not its answer; a heading-like line is not one either.
        score -= 0.5 * text.endswith("?") + 0.2 * (len(text.split()) < 4)
        score -= 0.03 * position
        found.append(Sentence(text, start, one.passage, score, shares[number]))
    return found


def _with_list(sentence: Sentence) -> Sentence:
    """Return a sentence that ends with a colon, or asks, with what follows it."""
    if not sentence.text.rstrip("*_ ").endswith((":", "?", ",")):
        return sentence
    rest = sentence.passage.text[sentence.start :]
    end = 0
    for start, text in split(rest):
        if end and start + len(text) > _LIST_CHARS:
            break
        end = start + len(text)
    return replace(sentence, text=rest[:end])
