"""Extraction against labels made by reading passages of six real handbooks (`labels.json`)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from triptych.learning.abstraction import vocabulary
from triptych.learning.abstraction.extraction import Text, findings
from triptych.learning.abstraction.vocabulary import Vocabulary

VOCABULARY = vocabulary.load()
LABELS = json.loads(Path(__file__).with_name("labels.json").read_text("utf-8"))["labels"]


def outcomes(name: str, by: Vocabulary = VOCABULARY) -> Counter[str]:
    counted: Counter[str] = Counter()
    for row in (one for one in LABELS if one["set"] == name):
        passage = Text("p", "d", tuple(row["headings"]), row["text"])
        found = {one.value for one in findings(by, passage) if one.practice == row["practice"]}
        counted["right"] += found == {row["value"]}
        counted["wrong"] += bool(found) and found != {row["value"]}
        counted["missed"] += row["value"] is not None and row["value"] not in found
    return counted


def test_on_the_labels_it_was_made_with_precision_is_90_and_recall_70_percent() -> None:
    found = outcomes("development")
    assert found["right"] / (found["right"] + found["wrong"]) >= 0.90
    assert found["right"] / (found["right"] + found["missed"]) >= 0.70


def test_on_handbooks_it_was_not_made_with_precision_is_75_percent() -> None:
    found = outcomes("held_out")
    assert found["right"] / (found["right"] + found["wrong"]) >= 0.75


@pytest.mark.parametrize("name", ["development", "held_out"])
def test_anchors_change_no_finding(name: str) -> None:
    practices = tuple(replace(one, anchors=()) for one in VOCABULARY.practices)
    assert outcomes(name) == outcomes(name, replace(VOCABULARY, practices=practices))


def test_every_label_is_of_the_vocabulary() -> None:
    for row in LABELS:
        practice = VOCABULARY[row["practice"]]
        assert row["value"] is None or row["value"] in practice.values
