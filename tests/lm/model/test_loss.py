"""The loss, its gradients, and the causal structure they rest on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.lm.model.conftest import random_ids, random_model, theirs
from triptych.lm.model.checkpoint import save_model
from triptych.lm.model.head import head_loss


def test_the_loss_is_the_one_transformers_computes(tmp_path: Path) -> None:
    model = random_model()
    save_model(tmp_path / "ours", model)
    ids = random_ids(2, 65)
    oracle = theirs(tmp_path / "ours")(ids, labels=ids).loss
    ours = model.loss(ids[:, :-1], ids[:, 1:])
    assert torch.allclose(ours, oracle, atol=1e-5)


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_gradients_are_those_of_the_plain_formula(model_type: str, tied: bool) -> None:
    model = random_model(model_type=model_type, tie_word_embeddings=tied)
    ids = random_ids(3, 65)
    targets = ids[:, 1:].clone()
    targets[0, 10:20] = -100
    model.loss(ids[:, :-1], targets).backward()
    ours = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    logits = model(ids[:, :-1])
    F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    for name, weight in model.named_parameters():
        assert torch.allclose(ours[name], weight.grad, atol=2e-6), name


def test_the_head_counts_only_targets_that_are_not_ignored() -> None:
    hidden = torch.randn(600, 32)
    weight = torch.randn(50, 32)
    targets = random_ids(600, vocab_size=50)
    targets[::3] = -100
    expected = F.cross_entropy(hidden @ weight.T, targets)
    assert torch.allclose(head_loss(hidden, weight, targets), expected, atol=1e-5)
    assert head_loss(hidden, weight, torch.full((600,), -100)) == 0


def test_a_later_token_changes_no_earlier_logit() -> None:
    model = random_model()
    ids = random_ids(1, 50)
    changed = ids.clone()
    changed[0, 30] = (ids[0, 30] + 1) % 131
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :30], after[:, :30])
    assert not torch.equal(before[:, 30:], after[:, 30:])


def test_token_losses_average_to_the_loss() -> None:
    model = random_model()
    ids = random_ids(2, 33)
    losses = model.token_losses(ids[:, :-1], ids[:, 1:])
    assert losses.shape == (2, 32)
    assert torch.allclose(losses.mean(), model.loss(ids[:, :-1], ids[:, 1:]), atol=1e-6)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model = random_model().train()
    ids = random_ids(2, 33)
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    plain = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    model.set_gradient_checkpointing(True)
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    for before, weight in zip(plain, model.parameters(), strict=True):
        assert torch.equal(before, weight.grad)
