"""Rows of six formats become one shape, and a row that cannot be trained on has a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triptych.errors import DataError
from triptych.lm.data.conversations.dataset import Examples, read_examples
from triptych.lm.data.conversations.formats import normalise
from triptych.lm.model.tokenizer import Tokenizer

ASKED = {"role": "user", "content": "one plus one"}
ANSWERED = {"role": "assistant", "content": "two"}
WRONG = {"role": "assistant", "content": "three"}
TALK = (ASKED, ANSWERED)


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> Tokenizer:
    return Tokenizer.load(corpus / "tokenizer")


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"messages": [ASKED, ANSWERED]}, "messages"),
        (
            {"conversations": [
                {"from": "human", "value": "one plus one"}, {"from": "gpt", "value": "two"},
            ]},
            "sharegpt",
        ),
        ({"instruction": "one plus one", "input": "", "output": "two"}, "alpaca"),
        ({"prompt": "one plus one", "completion": "two"}, "completion"),
        ({"prompt": [ASKED], "completion": [ANSWERED]}, "completion"),
        ({"prompt": "one plus one", "completion": "two", "label": True}, "label"),
        ({"prompt": "one plus one", "chosen": "two", "rejected": "three"}, "preference"),
        ({"chosen": [ASKED, ANSWERED], "rejected": [ASKED, WRONG]}, "preference"),
    ],
)  # fmt: skip
def test_every_format_becomes_the_same_conversation(record: dict[str, Any], kind: str) -> None:
    row = normalise(record)
    assert (row.format, row.messages) == (kind, TALK)
    if kind == "preference":
        assert (row.rejected, row.prompt) == ((ASKED, WRONG), 1)


def test_alpaca_s_input_system_and_history_are_kept() -> None:
    record = {
        "instruction": "Add", "input": "1, 1", "output": "2",
        "system": "Be brief.", "history": [["Hi", "Hello"]],
    }  # fmt: skip
    row = normalise(record)
    said = [(message["role"], message["content"]) for message in row.messages]
    assert said == [
        ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"),
        ("user", "Add\n\n1, 1"), ("assistant", "2"),
    ]  # fmt: skip
    assert row.prompt == 4


def read(tmp_path: Path, tokenizer: Tokenizer, *records: Any, kind: Any = "sft") -> Examples:
    file = tmp_path / "rows.jsonl"
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_examples(file, tokenizer, kind=kind, context_length=64)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ({"text": "x"}, "no known format"),
        ({"messages": []}, "no list of messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "no role of"),
        ({"messages": [{"role": "user"}]}, "has no content"),
        ({"messages": [ASKED]}, "no answer follows"),
        ({"messages": [ANSWERED]}, "broken roles: message 0"),
        ({"messages": [ASKED, ASKED, ANSWERED]}, "broken roles: message 1"),
        ({"messages": [ASKED, {**ANSWERED, "content": ""}]}, "empty answer"),
        ({"messages": [ASKED, {**ANSWERED, "content": "two " * 99}]}, "would be cut off"),
        ({"messages": [ASKED, {**ANSWERED, "tool_calls": [{"id": "a"}]}]}, "tool calls"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "train.method=sft reads"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_refused_with_file_line_and_reason(
    record: Any, reason: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    examples = read(tmp_path, tokenizer, {"messages": [ASKED, ANSWERED]}, record)
    assert len(examples.rows) == 1
    (refusal,) = examples.refused
    assert (refusal.file, refusal.line) == ("rows.jsonl", 2)
    assert reason in refusal.reason
    assert str(refusal) in examples.report()


def test_a_file_without_any_row_to_train_on_is_refused(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    with pytest.raises(DataError, match=r"no row of .* can be trained on: rows\.jsonl, line 1"):
        read(tmp_path, tokenizer, {"messages": [ASKED]})
    with pytest.raises(DataError, match="no file"):
        read_examples(tmp_path / "none.jsonl", tokenizer, kind="sft", context_length=64)


def test_the_order_of_lines_changes_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    records = [{"prompt": f"say {n}", "completion": f"{n}"} for n in range(20)]
    forward = read(tmp_path, tokenizer, *records)
    backward = read(tmp_path, tokenizer, *reversed(records))
    assert forward.fingerprint == backward.fingerprint


def test_rows_with_one_prompt_stay_on_one_side_of_the_split(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    records = [
        {"prompt": f"{word} {n}", "completion": f"{n}"}
        for n in range(20)
        for word in ("Say", "say")
    ]
    train, val = read(tmp_path, tokenizer, *records).split(0.2, seed=1)
    sides = [{row.prompt[0]["content"].lower() for row in side.rows} for side in (train, val)]
    assert len(sides[1]) == 4
    assert not sides[0] & sides[1]
    assert len(train.rows) + len(val.rows) == len(records)
