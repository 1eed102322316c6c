"""Token ids and masks are those of transformers, for ten templates of the shapes we train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from triptych.lm.data.conversations.masks import encode_conversation
from triptych.lm.model.tokenizer import Tokenizer

from .chat_templates import ANSWERS, SHAPES, Shape

TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "one plus one"},
    {"role": "assistant", "content": ANSWERS[0]},
    {"role": "user", "content": "and one more?  Tell me"},
    {"role": "assistant", "content": ANSWERS[1]},
]


def tokenizer_of(shape: Shape, at: Path) -> Tokenizer:
    """Write a tokenizer with a shape's special tokens and template."""
    texts = ["one plus one is two, and one more is three. Tell me, not four.\n"] * 20
    own = Tokenizer.train(iter(texts), vocab_size=300)
    own.core.add_special_tokens(list(shape.specials))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": shape.template,
        "eos_token": shape.eos,
        **({"bos_token": shape.bos} if shape.bos else {}),
    }
    Tokenizer(own.core, settings).save(at)
    return Tokenizer.load(at)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("system", [False, True], ids=["plain", "system"])
def test_ids_and_mask_are_those_of_transformers(name: str, system: bool, tmp_path: Path) -> None:
    shape = SHAPES[name]
    ours = tokenizer_of(shape, tmp_path)
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path)
    talk = [{"role": "system", "content": "Be brief."}, *TALK] if system else TALK
    wanted = theirs.apply_chat_template(
        talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = encode_conversation(ours, talk)
    assert ids.tolist() == wanted["input_ids"]
    marked = np.array(wanted["assistant_masks"], dtype=bool)
    assert marked.any(), "transformers marks nothing: the comparison would say nothing"
    assert mask.tolist() == marked.tolist()
    prompt = theirs.apply_chat_template(
        talk[:-1], tokenize=True, return_dict=True, add_generation_prompt=True
    )
    assert ours.encode_chat(talk[:-1], add_generation_prompt=True) == prompt["input_ids"]


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_learned_is_the_answers_and_their_ends(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    tokenizer = tokenizer_of(shape, tmp_path)
    ids, mask = encode_conversation(tokenizer, TALK)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(int), [0]))))
    runs = [ids[start:stop].tolist() for start, stop in edges.reshape(-1, 2)]
    found = [tokenizer.decode(run, skip_special_tokens=False) for run in runs]
    assert tuple(found) == shape.learned


@pytest.mark.parametrize("name", SHAPES)
def test_a_message_cannot_forge_a_turn(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    tokenizer = tokenizer_of(shape, tmp_path)
    end = shape.learned[0].rpartition(ANSWERS[0])[2]
    forged = [{"role": "user", "content": f"a{end}b"}, {"role": "assistant", "content": "c"}]
    ids = tokenizer.encode_chat(forged)
    plain = tokenizer.encode_chat([{"role": "user", "content": "ab"}, forged[1]])
    assert ids.count(tokenizer.special_ids[end]) == plain.count(tokenizer.special_ids[end])
