"""Answer from a company's documents: evidence with citations, or a refusal with its reason.

Left out: the gateway, which lets a model word the evidence and shows it only after the check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from triptych.learning.company.refusal import Calibration, calibration, features
from triptych.learning.company.retrieval import Ranked, Retriever
from triptych.learning.company.sentences import Sentence, best_sentences
from triptych.learning.company.words import words
from triptych.wire.evidence import Citation, Evidence, Passage, RefusalReason

PASSAGES = 3
_FOREIGN_REFUSED = 0.9
_HIGHEST = 0.75
_FOLLOW_UP = frozenset(
    ("it", "its", "they", "them", "their", "that", "this", "those", "these", "he", "she")
)
_REFUSALS: dict[RefusalReason, str] = {
    "nothing_indexed": "No documents have been added yet, so there is nothing to answer from.",
    "nothing_allowed": "You may not read any of this company's documents.",
    "nothing_found": "The documents do not answer this.",
}


def answer(
    retriever: Retriever,
    question: str,
    groups: frozenset[str] | None,
    history: Sequence[Mapping[str, Any]] = (),
    decide: Calibration | None = None,
) -> Evidence:
    """Return the evidence for a question, or a refusal that says why.

    `groups` are those of the user; None is an administrator who reads everything.
    """
    asked = with_subject(question, history)
    ranked, weights = retriever.find(asked, groups)
    release = str(retriever.store.version)
    if not ranked:
        reason = _nothing(retriever, groups)
        return Evidence(question, _REFUSALS[reason], refused=reason, release=release)
    chosen = best_sentences(asked, ranked[:PASSAGES], weights)
    cosine = ranked[0].cosine
    values = features(ranked, weights, chosen, cosine)
    decide = decide or calibration(cosine is not None).above(retriever.store.threshold())
    probability = decide.probability(values)
    passages = tuple(one.passage for one in ranked[:PASSAGES])
    details = {"features": values, "asked": asked}
    if probability < decide.threshold or not chosen:
        text = f"{_REFUSALS['nothing_found']} Nearest: {_places(passages)}."
        return Evidence(
            question, text, passages=passages, refused="nothing_found", confidence=probability,
            release=release, details=details,
        )  # fmt: skip
    text, citations = _cited(chosen)
    return Evidence(
        question, text, citations, _cited_first(citations, ranked), None, probability, release,
        details,
    )  # fmt: skip


def own_threshold(retriever: Retriever) -> float:
    """Return the confidence above which this company's documents are believed to answer.

    Questions that no handbook answers are asked; a tenth of them may pass. The more a company has
    written, the more of any question stands somewhere in it by chance.
    """
    text = resources.files("triptych.learning.company").joinpath("foreign_questions.txt")
    always = calibration(retriever.vectors is not None).always()
    found = sorted(
        answer(retriever, question, None, decide=always).confidence
        for question in text.read_text("utf-8").splitlines()
    )
    return round(min(found[int(len(found) * _FOREIGN_REFUSED)], _HIGHEST), 4)


def with_subject(question: str, history: Sequence[Mapping[str, Any]]) -> str:
    """Return a follow-up question together with the question before it, whose subject it keeps."""
    found = words(question)
    if not history or not (_FOLLOW_UP & set(found) or len(found) <= 4):
        return question
    before = [str(turn.get("content") or "") for turn in history if turn.get("role") == "user"]
    before = [text for text in before if text and text != question]
    return f"{before[-1]} {question}" if before else question


def _nothing(retriever: Retriever, groups: frozenset[str] | None) -> RefusalReason:
    documents, _ = retriever.store.counts()
    if not documents:
        return "nothing_indexed"
    sources = retriever.store.sources().values()
    stored = retriever.store.documents()
    allowed = groups is None or any(
        set(readers) & groups
        for readers in (*(one[1] for one in sources), *(one.groups or () for one in stored))
    )
    return "nothing_found" if allowed else "nothing_allowed"


def _cited(chosen: Sequence[Sentence]) -> tuple[str, tuple[Citation, ...]]:
    marks: dict[Passage, int] = {}
    pieces, citations = [], []
    for sentence in chosen:
        mark = marks.setdefault(sentence.passage, len(marks) + 1)
        pieces.append(f"{sentence.text.removeprefix('- ')} [{mark}]")
        citations.append(Citation(mark, sentence.text, sentence.passage))
    return " ".join(pieces), tuple(citations)


def _cited_first(citations: Sequence[Citation], ranked: Sequence[Ranked]) -> tuple[Passage, ...]:
    cited = [citation.passage for citation in citations]
    return tuple(dict.fromkeys([*cited, *(one.passage for one in ranked[:PASSAGES])]))


def _places(passages: Sequence[Passage]) -> str:
    names = dict.fromkeys(" > ".join((one.title, *one.headings[-1:])) for one in passages)
    return "; ".join(list(names)[:3])
