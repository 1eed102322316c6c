"""A company's own test questions, and how well they are answered.

A question with a document and words is answerable: its passage must be found and its answer must
hold the words. One without must be refused. Left out: answers worded by a model; the words are
those of the documents.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from triptych.durable import AppendLog, read_jsonl, write_atomic
from triptych.errors import UsageError
from triptych.learning.company.answer import answer
from triptych.learning.company.refusal import Calibration
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store
from triptych.learning.company.words import words
from triptych.wire.evidence import Passage

FILE, SCORES = "questions.jsonl", "scores.jsonl"


@dataclass(frozen=True)
class Question:
    """A test question. Without a document, the documents do not answer it.

    `words` must stand in the passage and in the answer; alternatives are separated by ` | `.
    """

    question: str
    document: str = ""
    words: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the question as a line of a questions file."""
        return {**asdict(self), "words": list(self.words)}

    def is_in(self, text: str) -> bool:
        """Return whether a text holds every one of the expected words."""
        flat = f" {' '.join(words(text))} "
        return all(
            any(f" {' '.join(words(one))} " in flat for one in each.split("|"))
            for each in self.words
        )

    def is_found(self, passage: Passage) -> bool:
        """Return whether a passage is of the document and holds the expected words."""
        return passage.document in self.document.split(" | ") and self.is_in(passage.text)


@dataclass(frozen=True)
class Scores:
    """Shares over a set of questions. `answered_right` and `answer_holds` are of answerable ones.

    `answer_holds` counts whether the extracted answer holds the expected words where refusal is
    left aside; `answered_right` counts it as it is shown.
    """

    answerable: int
    unanswerable: int
    recall_1: float
    recall_5: float
    answer_holds: float
    answered_right: float
    refused_wrongly: float
    refused_rightly: float
    query_ms_median: float
    query_ms_p95: float

    def as_json(self) -> dict[str, Any]:
        """Return the scores as plain values."""
        return asdict(self)


def questions(store: Store) -> list[Question]:
    """Return a company's questions."""
    path = store.folder / FILE
    return [] if not path.exists() else list(read_questions(path))


def add_questions(store: Store, path: Path) -> int:
    """Add the questions of a JSON Lines file to a company's own; return how many were new.

    Raises: UsageError for a line that is not a question.
    """
    known = questions(store)
    new = [one for one in read_questions(path) if one not in known]
    save_questions(store, [*known, *new])
    return len(new)


def save_questions(store: Store, asked: Iterable[Question]) -> None:
    """Replace a company's questions."""
    lines = [json.dumps(one.as_json(), ensure_ascii=False) for one in asked]
    write_atomic(store.folder / FILE, "".join(f"{line}\n" for line in lines), private=True)


def read_questions(path: Path) -> Iterable[Question]:
    """Yield the questions of a file.

    Raises: UsageError.
    """
    for number, row in enumerate(read_jsonl(path), start=1):
        text, expected = row.get("question"), row.get("words") or []
        if not isinstance(text, str) or not text.strip() or not isinstance(expected, list):
            raise UsageError(
                f"line {number} of {path} is not a question",
                hint='{"question": "...", "document": "leave.md", "words": ["25 days"]}',
            )
        yield Question(text, str(row.get("document") or ""), tuple(map(str, expected)))


@dataclass(frozen=True)
class Outcome:
    """How one question was answered: right, wrong, refused rightly, or refused wrongly."""

    question: Question
    result: str
    answer: str

    @property
    def is_right(self) -> bool:
        """Return whether it was answered, or refused, as it should be."""
        return self.result in ("right", "refused rightly")


def outcomes(retriever: Retriever, asked: Sequence[Question]) -> list[Outcome]:
    """Answer every question and return what became of each."""
    found = []
    for one in asked:
        evidence = answer(retriever, one.question, None)
        if evidence.refused is not None:
            result = "refused wrongly" if one.document else "refused rightly"
        else:
            result = "right" if one.document and one.is_in(evidence.answer) else "wrong"
        found.append(Outcome(one, result, evidence.answer))
    return found


def record_scores(store: Store, scores: Scores) -> None:
    """Append the scores with the time and the version of the documents."""
    with AppendLog(store.folder / SCORES) as log:
        log.append({"format": 1, "at": time.time(), "version": store.version, **scores.as_json()})


def past_scores(store: Store) -> list[dict[str, Any]]:
    """Return the recorded scores, oldest first."""
    path = store.folder / SCORES
    return list(read_jsonl(path)) if path.exists() else []


def evaluate(
    retriever: Retriever, asked: Sequence[Question], decide: Calibration | None = None
) -> Scores:
    """Answer every question and return the shares."""
    firsts, fives, holds, right, refused, times = [], [], [], [], [], []
    rightly = []
    always = Calibration({}, 30.0, 0.0)
    for one in asked:
        started_s = time.perf_counter()
        evidence = answer(retriever, one.question, None, decide=decide)
        times.append((time.perf_counter() - started_s) * 1000)
        if not one.document:
            rightly.append(evidence.refused is not None)
            continue
        ranked, _ = retriever.find(one.question, None)
        found = [one.is_found(each.passage) for each in ranked[:5]]
        firsts.append(any(found[:1]))
        fives.append(any(found))
        holds.append(one.is_in(answer(retriever, one.question, None, decide=always).answer))
        refused.append(evidence.refused is not None)
        right.append(evidence.refused is None and one.is_in(evidence.answer))
    times.sort()
    return Scores(
        answerable=len(firsts),
        unanswerable=len(rightly),
        recall_1=_share(firsts),
        recall_5=_share(fives),
        answer_holds=_share(holds),
        answered_right=_share(right),
        refused_wrongly=_share(refused),
        refused_rightly=_share(rightly),
        query_ms_median=round(times[len(times) // 2], 2) if times else 0.0,
        query_ms_p95=round(times[int(len(times) * 0.95)], 2) if times else 0.0,
    )


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
