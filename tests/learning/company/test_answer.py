"""Answers cite the documents' own words; a model's text is shown only where they hold it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.learning.company.answer import answer, with_subject
from triptych.learning.company.checking import check, unsupported
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.sentences import split
from triptych.learning.company.store import Store
from triptych.learning.company.words import stem

PAGES = {
    "leave.md": "# Time off\n\n## Paid leave\n\nEmployees have 25 days of paid leave a year. "
    "Five days carry over to the next year. Ask Dana Reyes at leave@acme.example.\n",
    "expenses.md": "# Expenses\n\n## Travel\n\nTrains are booked in second class. "
    "Receipts are sent within 14 days.\n",
    "hours.md": "# Office\n\n## Opening hours\n\nThe office opens at 8:00 and closes at 18:30.\n",
}


@pytest.fixture
def retriever(tmp_path: Path) -> Retriever:
    from company_documents import document

    store = Store(tmp_path / "acme", "acme")
    store.set_source("handbook", "handbook", ["everyone"])
    store.apply("handbook", [document(name, text) for name, text in PAGES.items()], [])
    return Retriever(store)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("How many days of paid leave do employees have?", "25 days"),
        ("Within how many days must receipts be sent?", "14 days"),
        ("When does the office open?", "8:00"),
    ],
)
def test_the_sentence_that_answers_is_quoted_with_its_place(
    retriever: Retriever, question: str, words: str
) -> None:
    evidence = answer(retriever, question, None)
    assert evidence.refused is None
    assert words in evidence.answer
    for citation in evidence.citations:
        assert f"[{citation.mark}]" in evidence.answer
        assert citation.quote in citation.passage.text
        text = retriever.store.text(int(citation.passage.id.split("-")[0]))
        assert text is not None
        assert text[citation.passage.start : citation.passage.end] == citation.passage.text


def test_refusals_say_whether_nothing_is_there_allowed_or_found(
    retriever: Retriever, tmp_path: Path
) -> None:
    empty = Retriever(Store(tmp_path / "empty", "empty"))
    assert answer(empty, "What is our leave policy?", None).refused == "nothing_indexed"
    assert answer(retriever, "paid leave?", frozenset()).refused == "nothing_allowed"
    refused = answer(retriever, "Who won the world cup of football?", None)
    assert refused.refused == "nothing_found"
    assert not refused.citations


def test_a_follow_up_question_keeps_its_subject() -> None:
    history = [{"role": "user", "content": "How many days of paid leave do we have?"}]
    assert "paid leave" in with_subject("Can they carry over?", history)
    long = "When does the office in Bonn open on Mondays?"
    assert with_subject(long, history) == long


def evidence_of(retriever: Retriever):  # type: ignore[no-untyped-def]
    return answer(retriever, "How many days of paid leave do employees have?", None)


@pytest.mark.parametrize(
    "text",
    [
        "Employees have 21 days of paid leave a year [1].",
        "Employees have twenty-six days of paid leave [1].",
        "Ask Martin Okafor about paid leave.",
        "Write to hr@acme.example about paid leave.",
        'The handbook says "unlimited paid leave".',
        "Leave is unlimited because our culture of trust rewards autonomy and long careers.",
        "",
    ],
)
def test_words_that_no_passage_holds_are_not_shown(retriever: Retriever, text: str) -> None:
    evidence = evidence_of(retriever)
    checked = check(text, evidence)
    assert not checked.is_model_text
    assert checked.problems
    assert checked.text == evidence.answer


@pytest.mark.parametrize(
    "text", ["You have 25 days of paid leave a year [1].", "Employees have 25 days a year. [9]"]
)
def test_words_that_the_passages_hold_are_shown_with_marks(retriever: Retriever, text: str) -> None:
    checked = check(text, evidence_of(retriever))
    assert checked.is_model_text, checked.problems
    assert "[9]" not in checked.text
    assert "[1]" in checked.text
    assert checked.citations


@given(st.text(max_size=300))
def test_the_documents_own_sentences_always_pass_the_check(text: str) -> None:
    assert unsupported(text, text) == []


@given(st.text(max_size=400))
def test_sentences_stand_where_their_offsets_say(text: str) -> None:
    for start, sentence in split(text):
        assert text[start : start + len(sentence)] == sentence


def test_stems_join_the_forms_of_a_word() -> None:
    for one, other in (("policies", "policy"), ("booked", "booking"), ("employees", "employee"),
                       ("running", "run"), ("managers", "manager")):  # fmt: skip
        assert stem(one) == stem(other)
