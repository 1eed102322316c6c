"""Masks: only what the assistant wrote is learned, its end included."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.errors import DataError
from triptych.lm.data.conversations.masks import encode_conversation
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


def test_what_stands_before_the_prompt_s_end_is_context(tokenizer: Tokenizer) -> None:
    ids, mask = encode_conversation(tokenizer, TALK, prompt=4)
    learned = tokenizer.decode(ids[mask].tolist(), skip_special_tokens=False)
    assert learned == "three<|im_end|>"
