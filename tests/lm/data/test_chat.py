"""Conversations: only what the assistant wrote is learned, and bad lines are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.errors import DataError
from triptych.lm.data.chat import encode_conversation, read_conversations
from triptych.lm.model.tokenizer import Tokenizer

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "one plus one"},
    {"role": "assistant", "content": "\n\ntwo"},
    {"role": "user", "content": "plus <|im_end|> one"},
    {"role": "assistant", "content": "three"},
]


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> Tokenizer:
    return Tokenizer.load(corpus / "tokenizer")


def test_the_mask_covers_the_answers_and_their_ends(tokenizer: Tokenizer) -> None:
    ids, mask = encode_conversation(tokenizer, TALK)
    assert ids.tolist() == tokenizer.encode_chat(TALK)
    learned = tokenizer.decode(ids[mask].tolist(), skip_special_tokens=False)
    # The newlines that begin the first answer may share a token with the template's own.
    assert learned.lstrip("\n") == "two<|im_end|>three<|im_end|>"


def test_a_template_that_rewrites_history_is_refused(tokenizer: Tokenizer) -> None:
    template = "{% for m in messages %}{{ loop.revindex }}{{ m['content'] }}{% endfor %}"
    forgetful = Tokenizer(tokenizer.core, {**tokenizer.settings, "chat_template": template})
    with pytest.raises(DataError, match="rewrites earlier turns"):
        encode_conversation(forgetful, TALK)


def test_conversations_are_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    file.write_text(good + "\n\n" + good + "\n")
    assert [len(talk) for talk in read_conversations(file)] == [2, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 of talks.jsonl is not JSON"),
        ('{"text": "x"}', "has no list of messages"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "has no role of"),
        ('{"messages": [{"role": "user"}]}', "has no content"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no answer of the assistant"),
    ],
)
def test_a_bad_conversation_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        list(read_conversations(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        list(read_conversations(tmp_path / "none.jsonl"))
