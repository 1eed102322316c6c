"""Practices are read by rules that abstain: denials, questions and disagreement make no vote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.errors import LearningError
from triptych.learning.abstraction import vocabulary
from triptych.learning.abstraction.audit.synthetic import PATTERNS, document
from triptych.learning.abstraction.companies import read
from triptych.learning.abstraction.extraction import Text, findings

VOCABULARY = vocabulary.load()


def shown(sentence: str, headings: tuple[str, ...] = ()) -> dict[str, str]:
    found = findings(VOCABULARY, Text("p", "d", headings, sentence))
    return {one.practice: one.value for one in found}


@pytest.mark.parametrize(("practice", "value", "sentence"), PATTERNS)
def test_a_plain_sentence_shows_its_practice(practice: str, value: str, sentence: str) -> None:
    assert shown(sentence)[practice] == value


@pytest.mark.parametrize(
    "sentence",
    [
        "We do not use pair programming.",
        "Do you want to try pair programming?",
        "Other companies like pair programming.",
        "TODO: describe pair programming",
    ],
)
def test_a_denied_asked_or_foreign_practice_is_no_vote(sentence: str) -> None:
    assert "pair_programming" not in shown(sentence)


def test_numbers_fall_into_buckets_of_the_vocabulary() -> None:
    assert shown("Each change needs two approvals.")["review_approvals"] == "two approvals"
    leave = shown("New parents have 4 months of paid parental leave.")
    assert leave["parental_leave"] == "17 to 26 weeks"


def test_a_heading_may_name_what_a_choice_is_about() -> None:
    assert shown("We meet weekly.", ("One-on-ones",))["one_on_one_frequency"] == "weekly"
    assert "one_on_one_frequency" not in shown("We meet weekly.", ("Lunch",))


def test_passages_that_disagree_make_no_vote() -> None:
    texts = ["Sprints last two weeks.", "Sprints last one week."]
    documents = [document(str(place), [text]) for place, text in enumerate(texts)]
    assert "iteration" not in read("a", documents, VOCABULARY).votes


def test_the_same_document_twice_counts_once() -> None:
    one = document("a", ["We like pair programming."])
    assert read("a", [one, one], VOCABULARY).documents == 1


def test_evidence_names_the_passage() -> None:
    reading = read("a", [document("handbook.md", ["We like pair programming."])], VOCABULARY)
    assert reading.votes["pair_programming"].passages == ("handbook.md#0-25",)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "essay"}, "kind"),
        ({"values": {"yes": ["("]}}, "not a phrase"),
        ({"id": "Not An Id"}, "not an id"),
    ],
)
def test_a_wrong_vocabulary_is_refused_with_what_is_wrong(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    values = json.loads(vocabulary.FILE.read_text("utf-8"))
    values["practices"] = [{**values["practices"][0], **change}]
    file = tmp_path / "vocabulary.json"
    file.write_text(json.dumps(values), "utf-8")
    with pytest.raises(LearningError, match=named):
        vocabulary.load(file)
