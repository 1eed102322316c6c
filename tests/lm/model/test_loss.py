"""The loss, its gradients, and the causal structure they rest on."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.lm.model.conftest import random_ids, random_model, theirs
from triptych.lm.model.attention import causal_attention
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


@pytest.mark.parametrize("shared", [4, 2, 1])
@pytest.mark.parametrize("length", [2, 40, 256, 600])
def test_the_written_out_attention_is_attention(shared: int, length: int) -> None:
    torch.manual_seed(0)
    shapes = [(2, 4, length, 16), (2, shared, length, 16), (2, shared, length, 16)]
    exact = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
    grad = torch.randn(shapes[0], dtype=torch.float64)
    expected = F.scaled_dot_product_attention(*exact, is_causal=length > 1, enable_gqa=True)
    expected.backward(grad)
    ours = causal_attention(*rounded)
    ours.backward(grad.bfloat16())
    for mine, right in zip(
        (ours, *(x.grad for x in rounded)), (expected, *(x.grad for x in exact)), strict=True
    ):
        assert (mine.double() - right).norm() <= 0.02 * right.norm()


def test_bfloat16_products_give_nearly_the_same_gradients() -> None:
    model = random_model()
    ids = random_ids(2, 101)
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    exact = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    model.zero_grad()
    model.compute_dtype = torch.bfloat16
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    rounded = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    assert (exact - rounded).norm() <= 0.03 * exact.norm()


@pytest.mark.prove
def test_the_compiled_model_gives_the_gradients_of_the_plain_one() -> None:
    model = random_model()
    ids = random_ids(2, 65)
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    plain = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.compile(model.loss)(ids[:, :-1], ids[:, 1:]).backward()
    for before, weight in zip(plain, model.parameters(), strict=True):
        assert torch.allclose(before, weight.grad, atol=1e-5)
