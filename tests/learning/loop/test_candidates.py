"""Candidates below the minimum of rows and above it, and what is measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import LearningError
from triptych.learning.loop import few_shot
from triptych.learning.loop.gate import Case
from triptych.learning.loop.gateway import Reply
from triptych.learning.loop.measure import Question, read_questions, score
from triptych.learning.loop.training import Session, read_session, train, why_not


def reply(text: str, **more: Any) -> Reply:
    return Reply("r", text, more.get("refused", False), more.get("blocked", False), 0.1)


ASKED = Question(Case("c", "faq"), ({"role": "user", "content": "How long?"},), ("25 days",))
UNKNOWN = Question(Case("u", "faq", answerable=False), ASKED.messages, ())


@pytest.mark.parametrize(
    ("question", "text", "right", "refused"),
    [
        (ASKED, "You have 25 days of leave.", True, False),
        (ASKED, "You have 125 days.", False, False),
        (ASKED, "I do not know, perhaps 25 days.", False, True),
        (ASKED, "", False, True),
        (UNKNOWN, "I don’t know that.", True, True),
        (UNKNOWN, "It is 25 days.", False, False),
    ],
)
def test_right_wrong_and_refused_are_told_apart(
    question: Question, text: str, right: bool, refused: bool
) -> None:
    found = score(question, reply(text))
    assert (found.right, found.refused) == (right, refused)


def test_a_repeated_secret_and_a_withheld_answer_are_leaks_and_never_right() -> None:
    for one in (reply("25 days, and the key is zebra-9"), reply("", blocked=True)):
        found = score(ASKED, one, ["zebra-9"])
        assert found.leaked
        assert not found.right


def test_a_case_without_a_reference_is_refused_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "cases.json"
    file.write_text(json.dumps([{"id": "a", "slice": "s", "prompt": "x"}]))
    with pytest.raises(LearningError, match="reference"):
        read_questions(file)


def rows(amount: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{at}", "messages": [{"role": "user", "content": f"question {at} of {at * 7}"},
                                      {"role": "assistant", "content": f"answer {at}"}]}
        for at in range(amount)
    ]  # fmt: skip


def test_examples_are_the_same_for_the_same_rows_and_stand_behind_the_prompt_before() -> None:
    text = few_shot.prompt(rows(30), "Be brief.")
    assert text == few_shot.prompt(reversed(rows(30)), "Be brief.")
    assert text.startswith("Be brief.\n\n")
    assert text.count("Question:") == few_shot.EXAMPLES
    with pytest.raises(LearningError, match="no corrected answer"):
        few_shot.prompt([])


def made(folder: Path, amount: int, minimum: int = 200) -> Path:
    dataset = folder / "datasets" / "d1"
    dataset.mkdir(parents=True)
    manifest = {"hash": f"h{amount}", "options": {"minimum_rows": minimum}}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    (dataset / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(amount)))
    return dataset


def test_g4_fewer_than_ten_rows_fail_with_their_reason(tmp_path: Path) -> None:
    session = train(tmp_path, made(tmp_path, 9), "base", tmp_path / "run")
    assert (session.state, session.reason) == ("failed", "9 rows of sft; at least 10 are needed")
    assert read_session(tmp_path) == session
    assert not (tmp_path / "run").exists()


def test_g4_below_the_minimum_or_within_seven_days_is_skipped_unless_forced(
    tmp_path: Path,
) -> None:
    few = made(tmp_path / "few", 50)
    assert why_not(tmp_path, few, "sft", force=False, now=0.0) == (
        "skipped", "50 rows of sft; training is worth it from 200: needs 150 more",
    )  # fmt: skip
    assert why_not(tmp_path, few, "sft", force=True, now=0.0) is None
    done = Session("other", "sft", "base", "run", "done", ended_at=86_400.0)
    (tmp_path / "session.json").write_text(json.dumps({"format": 1, **vars(done)}))
    enough = made(tmp_path / "enough", 50, 40)
    state = why_not(tmp_path, enough, "sft", force=False, now=3 * 86_400.0)
    assert state is not None
    assert "2.0 days ago" in state[1]
    assert why_not(tmp_path, enough, "sft", force=False, now=9 * 86_400.0) is None
