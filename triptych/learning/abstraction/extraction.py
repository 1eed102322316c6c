"""Read a company's practices from its passages: rules that abstain rather than guess.

A value counts where a phrase stands in a sentence that is neither a question nor denied. All
passages of a company make one vote for each practice; where they disagree there is none. The
passages stay with the company as evidence. Left out: publishing anything.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from triptych.documents import Document
from triptych.learning.abstraction.vocabulary import NO, Practice, Vocabulary
from triptych.learning.company.passages import divide
from triptych.learning.company.sentences import split

_DENIED = re.compile(
    r"(?:\b(?:no|not|never|without|avoid|cannot|nor)\b|n't\b|\brather than\b|\binstead of\b)"
    r"(?:\W+\w+){0,3}\W*$"
)
# What is only imagined, wanted or of another company says nothing about the company itself.
_DOUBTFUL = re.compile(
    r"\b(?:to[d]o|tbd|for example, (?:a|some) compan|other companies|in the future|we plan to"
    r"|we hope to|might want to|some (?:teams|companies)|no longer|deprecated"
    r"|there is (?:currently )?no|do not (?:yet )?have)\b"
)
_NEGATIVE_START = re.compile(r"(?:no|not|never|don't|do not|avoid|without|cannot)\b")
_LONGEST = 700
_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "ten": 10,
    "twelve": 12, "sixteen": 16,
}  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A passage as extraction reads it. `id` names it inside the company."""

    id: str
    document: str
    headings: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Finding:
    """A value of a practice that a sentence shows; `sentence` never leaves the company."""

    practice: str
    value: str
    passage: str
    sentence: str


@dataclass(frozen=True)
class Vote:
    """What a company does about one practice, with the passages that show it."""

    value: str
    passages: tuple[str, ...]


def texts(documents: Iterable[Document]) -> Iterator[Text]:
    """Yield the passages of documents."""
    for document in documents:
        for piece in divide(document):
            name = f"{document.name}#{piece.start}-{piece.end}"
            yield Text(name, document.name, (document.title, *piece.headings), piece.text)


def findings(vocabulary: Vocabulary, passage: Text) -> list[Finding]:
    """Return every value that a passage shows, at most one sentence for each."""
    lowered = passage.text.lower().replace("’", "'")
    above = " / ".join(passage.headings).lower()
    found: dict[tuple[str, str], Finding] = {}
    sentences: list[str] | None = None
    for practice in vocabulary.practices:
        if not _may_hold(practice, lowered):
            continue
        if sentences is None:
            sentences = [text[:_LONGEST] for _, text in split(lowered)]
        for sentence in sentences:
            for value in _values(practice, sentence, above):
                key = (practice.id, value)
                found.setdefault(key, Finding(practice.id, value, passage.id, sentence))
    return list(found.values())


def votes(vocabulary: Vocabulary, found: Iterable[Finding]) -> dict[str, Vote]:
    """Return one vote for each practice; a practice on which the passages disagree has none."""
    by_practice: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        by_practice[one.practice][one.value].append(one.passage)
    chosen = {}
    for practice in vocabulary.practices:
        values = by_practice.get(practice.id)
        value = _majority(practice, values) if values else None
        if values and value and len(values[value]) >= practice.least_passages:
            chosen[practice.id] = Vote(value, tuple(sorted(values[value])))
    return chosen


def _may_hold(practice: Practice, text: str) -> bool:
    if practice.anchors and not any(anchor in text for anchor in practice.anchors):
        return False
    if practice.number is not None:
        return bool(practice.number.search(text))
    return any(pattern.search(text) for pattern in practice.phrases)


def _values(practice: Practice, sentence: str, above: str) -> Iterator[str]:
    """Yield the values that one sentence shows."""
    if sentence.endswith("?") or _DOUBTFUL.search(sentence) or practice.never.search(sentence):
        return
    if practice.near is not None and not practice.near.search(f"{above} / {sentence}"):
        return
    if practice.number is not None:
        yield from _numbers(practice, sentence)
        return
    for value, pattern in zip(practice.values, practice.phrases, strict=True):
        if any(
            value == NO or not _is_denied(sentence, match) for match in pattern.finditer(sentence)
        ):
            yield value


def _is_denied(sentence: str, match: re.Match[str]) -> bool:
    """Return whether a negation stands before a phrase that has none itself."""
    if _NEGATIVE_START.match(match.group()):
        return False
    return bool(_DENIED.search(sentence[max(0, match.start() - 40) : match.start()]))


def _numbers(practice: Practice, sentence: str) -> Iterator[str]:
    assert practice.number is not None
    for match in practice.number.finditer(sentence):
        written = match["n"].replace(",", "")
        number = float(written) if written.isdigit() else float(_NUMBERS.get(written, 0))
        unit = match.groupdict().get("u") or ""
        # A unit is written in the singular; the empty one is where none is asked for.
        factor = next(
            (factor for name, factor in practice.units if name and unit.startswith(name)),
            dict(practice.units).get("", 1.0),
        )
        if number > 0 and not _is_denied(sentence, match):
            yield practice.bucket(number * factor)


def _majority(practice: Practice, values: dict[str, list[str]]) -> str | None:
    """Return the value that more than half of the passages show; of buckets the middle one."""
    counts = Counter({value: len(passages) for value, passages in values.items()})
    value, most = counts.most_common(1)[0]
    if 2 * most > sum(counts.values()):
        return value
    if practice.kind == "number":
        places = sorted(practice.values.index(one) for one in counts.elements())
        middle = median(places)
        # Neighbouring buckets are agreement enough; a wide spread is not.
        if places[-1] - places[0] <= 1:
            return practice.values[int(middle)]
    return None
