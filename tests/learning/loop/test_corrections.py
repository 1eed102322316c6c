"""A reviewer's correction answers like questions from the next one on, cited as what it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_process import Loop

from triptych.cli.main import main

QUESTION = "Where do I get a new badge when mine is lost?"
ANSWER = "A new badge is printed at the reception on the second floor."


@pytest.fixture
def loop(own_home: Path, tmp_path: Path) -> Iterator[Loop]:
    made = Loop(own_home)
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "leave.md").write_text("# Leave\n\nEmployees have 25 days of paid leave a year.\n")
    (folder / "pay.md").write_text("# Pay\n\nSalaries are paid on the 27th of each month.\n")
    assert main(["company", "add", "acme", str(folder)]) == 0
    made.call("PUT", "/admin/flags/tier.company", {"value": True})
    yield made
    made.gateway.kill()


def ask(loop: Loop, question: str, who: int = 0) -> tuple[str, dict[str, Any]]:
    body = {"model": "company", "messages": [{"role": "user", "content": question}]}
    request_id, answer = loop.send("POST", "/v1/chat/completions", body, loop.keys[who])
    return request_id, answer["choices"][0]


def correct(loop: Loop, request_id: str, key: str = "") -> Any:
    body = {"kind": "correction", "value": ANSWER, "request_id": request_id}
    return loop.call("POST", "/api/feedback", body, key)


def test_a_reviewers_correction_answers_the_next_question_with_its_source(loop: Loop) -> None:
    request_id, refused = ask(loop, QUESTION)
    assert "second floor" not in refused["message"]["content"]
    # What any user writes is data for training, and no answer to others.
    assert "answers_now" not in correct(loop, request_id, loop.keys[0])
    assert "second floor" not in ask(loop, QUESTION, 1)[1]["message"]["content"]

    assert correct(loop, request_id)["answers_now"]
    _, answer = ask(loop, "Where is a new badge printed when the old one is lost?", 2)
    assert "second floor" in answer["message"]["content"]
    (citation, *_) = answer["citations"]
    assert citation["title"].startswith("Correction by a reviewer")
    # The documents answer as before, and others do not get the correction for everything.
    leave = ask(loop, "How many days of paid leave do employees have?")[1]
    assert "25 days" in leave["message"]["content"]
    assert "second floor" not in ask(loop, "Who won the cup?")[1]["message"]["content"]


def test_d6_erasing_the_person_who_asked_removes_the_correction_with_its_bytes(
    loop: Loop,
) -> None:
    request_id, _ = ask(loop, QUESTION, 3)
    assert correct(loop, request_id)["answers_now"]
    body = {"kind": "erasure", "user_id": "u3"}
    privacy_id = loop.call("POST", "/api/privacy/requests", body)["privacy_id"]
    for _ in range(200):
        if loop.call("GET", f"/api/privacy/requests/{privacy_id}")["state"] == "done":
            break
        time.sleep(0.1)
    assert "second floor" not in ask(loop, QUESTION, 4)[1]["message"]["content"]
    stored = b"".join(
        path.read_bytes() for path in (loop.home / "companies").rglob("*") if path.is_file()
    )
    assert b"second floor" not in stored
