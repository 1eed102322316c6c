"""Our sentence encoder gives the vectors that transformers gives from the same folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from triptych.errors import CheckpointError
from triptych.lm.model.sentence_encoder import SentenceEncoder

TEXTS = ["the cat sat", "", "a much longer text about the cat and the mat " * 30, "mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, saved by transformers."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for t in TEXTS for w in t.split()})]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=300,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


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
