"""Texts packed one after another: what is computed of each is what is computed of it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from triptych.lm.data.conversations.dataset import Tokens
from triptych.lm.model.checkpoint import load_model
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.posttrain.batches import pack, pad
from triptych.lm.train.posttrain.losses import answer_logps

LENGTHS = (2, 17, 40, 9, 300)


@pytest.fixture
def model(random_folder: Path) -> Transformer:
    return load_model(random_folder, dtype=torch.float32)


def texts() -> list[Tokens]:
    drawn = np.random.default_rng(5)
    made = []
    for length in LENGTHS:
        mask = drawn.random(length) < 0.5
        mask[-1] = True
        made.append(Tokens(drawn.integers(3, 500, length), mask))
    return made


def test_hidden_states_of_packed_texts_are_those_of_each_alone(model: Transformer) -> None:
    batch = pack(texts(), "cpu")
    with torch.no_grad():
        packed = model.model(batch.ids, torch.float32, None, batch.lengths)
        logits = model.lm_head(packed)[0].split(list(batch.lengths or ()))
        for text, mine in zip(texts(), logits, strict=True):
            alone = model(torch.from_numpy(text.ids[None, :-1]))[0]
            torch.testing.assert_close(mine, alone, atol=1e-5, rtol=1e-5)


def test_a_window_does_not_reach_into_the_text_before() -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        model_type="gemma3_text", vocab_size=512, hidden_size=64, intermediate_size=96,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=512, sliding_window=8,
        layer_types=("sliding_attention", "full_attention"),
    )  # fmt: skip
    model = Transformer(config)
    model.reset_parameters(zero_outputs=False)
    batch = pack(texts(), "cpu")
    with torch.no_grad():
        packed = model.eval().model(batch.ids, torch.float32, None, batch.lengths)[0]
        for text, mine in zip(texts(), packed.split(list(batch.lengths or ())), strict=True):
            alone = model.model(torch.from_numpy(text.ids[None, :-1]), torch.float32)[0]
            torch.testing.assert_close(mine, alone, atol=1e-5, rtol=1e-5)


def test_losses_and_gradients_are_those_of_padded_rows(model: Transformer) -> None:
    found = []
    for lay in (pack, pad):
        model.zero_grad()
        batch = lay(texts(), "cpu")
        losses = model.marked_losses(batch.ids, batch.targets, batch.lengths)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()
                     if weight.grad is not None}  # fmt: skip
        found.append((losses.detach(), batch.rows(), gradients))
    (mine, rows, gradients), (theirs, their_rows, wanted) = found
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert rows.tolist() == their_rows.tolist()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-3, rtol=1e-3)


def test_the_sum_of_each_text_is_its_own(model: Transformer) -> None:
    with torch.no_grad():
        together = answer_logps(model, texts(), "cpu")
        alone = [float(answer_logps(model, [text], "cpu")) for text in texts()]
    assert together.tolist() == pytest.approx(alone, abs=1e-4)
