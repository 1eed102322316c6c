"""Our sentence encoder gives the vectors that transformers gives from the same folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_bert import save_small_bert

from triptych.errors import CheckpointError
from triptych.lm.model.sentence_encoder import SentenceEncoder

TEXTS = ["the cat sat", "", "a much longer text about the cat and the mat " * 30, "mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, saved by transformers."""
    return save_small_bert(tmp_path_factory.mktemp("bert"), TEXTS)


def test_vectors_equal_those_of_transformers_alone_and_in_a_batch(folder: Path) -> None:
    from transformers import BertModel

    encoder = SentenceEncoder(folder)
    model = BertModel.from_pretrained(folder).eval()
    expected = []
    for text in TEXTS:
        ids = torch.tensor([encoder.tokenizer.encode(text or " ").ids])
        with torch.inference_mode():
            mean = model(ids).last_hidden_state.mean(1)
        expected.append(torch.nn.functional.normalize(mean, dim=-1)[0].numpy())
    found = encoder.encode(TEXTS)
    assert np.abs(found - np.stack(expected)).max() < 1e-5
    for position, text in enumerate(TEXTS):
        assert np.abs(encoder.encode([text])[0] - found[position]).max() < 1e-5


def test_vectors_have_length_one_and_no_texts_give_no_vectors(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    assert np.allclose(np.linalg.norm(encoder.encode(TEXTS), axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, 32)


def test_a_folder_without_an_encoder_is_refused_with_the_command_to_type(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        SentenceEncoder(tmp_path)
    assert "triptych pull" in (refused.value.hint or "")
