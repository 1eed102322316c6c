"""Muon, the groups beside it, and schedules."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.config.train import TrainConfig
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.optimizers import (
    Muon,
    OptimizerSet,
    build_optimizers,
    orthogonalise,
)
from triptych.lm.train.recipe import HardwareChoice, derive
from triptych.lm.train.schedules import lr_share, momentum_at

TRAIN = TrainConfig(momentum=0.95, beta1=0.9, beta2=0.95)
MEASURED = HardwareChoice(
    device="cpu",
    machine="any",
    threads=1,
    precision="float32",
    compile=False,
    machine_flops=1e9,
    tok_per_s=1000.0,
)
RECIPE = replace(
    derive(TRAIN, ModelConfig.of_size("nano", vocab_size=64), MEASURED, train_tokens=100_000),
    learning_rate=0.02,
    embedding_lr=0.01,
    head_lr=0.004,
    gain_lr=0.03,
    weight_decay=0.1,
)


def small(**changes: object) -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig.of_size("nano", vocab_size=64, **changes))


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 16), (1, 16, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalised_matrices_have_singular_values_near_one(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    result = orthogonalise(torch.randn(shape) * 1e-3, dtype).float()
    values = torch.linalg.svdvals(result)
    assert values.max() < 1.2 and values.min() > 0.6


def test_orthogonalising_keeps_the_singular_vectors() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(1, 24, 24)
    u, _, vh = torch.linalg.svd(matrix)
    result = orthogonalise(matrix, torch.float32)
    aligned = (u.mT @ result @ vh.mT).diagonal(dim1=-2, dim2=-1)
    assert aligned.min() > 0.6


def test_every_parameter_has_exactly_one_optimizer() -> None:
    for tied in (True, False):
        for optimizer in ("muon", "adamw", "adam", "sgd"):
            model = small(tie_word_embeddings=tied)
            train = replace(TRAIN, optimizer=optimizer)
            built = build_optimizers(model, train, RECIPE, dtype=torch.float32)
            held = [
                parameter
                for part in built.optimizers
                for group in part.param_groups
                for parameter in group["params"]
            ]
            assert len(held) == len(set(held)) == len(list(model.parameters()))


def test_muon_takes_matrices_and_adam_the_rest_at_their_own_rates() -> None:
    model = small(tie_word_embeddings=False)
    muon, rest = build_optimizers(model, TRAIN, RECIPE, dtype=torch.float32).optimizers
    assert isinstance(muon, Muon)
    assert all(p.ndim == 2 for p in muon.param_groups[0]["params"])
    assert [group["lr"] for group in rest.param_groups] == [0.01, 0.004, 0.03]


def test_weight_decay_never_moves_a_weight_away_from_the_step() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 8))
    before = weight.detach().clone()
    plain = torch.nn.Parameter(before.clone())
    gradient = torch.randn(8, 8)
    for parameter, decay in ((weight, 0.5), (plain, 0.0)):
        parameter.grad = gradient.clone()
        Muon([parameter], lr=0.1, momentum=0.0, weight_decay=decay, dtype=torch.float32).step()
    step, decayed = plain - before, weight - plain
    assert torch.all(decayed * step >= 0), "decay acts only where it agrees with the step"
    assert torch.any(decayed != 0)


def step(model: Transformer, optimizers: OptimizerSet) -> None:
    ids = torch.arange(34).reshape(2, 17)
    optimizers.zero_grad()
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    optimizers.step(1.0, 0.9)


def test_state_survives_as_named_tensors() -> None:
    for optimizer in ("muon", "adamw", "sgd"):
        train = replace(TRAIN, optimizer=optimizer)
        first, second = small(), small()
        ours, theirs = (
            build_optimizers(m, train, RECIPE, dtype=torch.float32) for m in (first, second)
        )
        step(first, ours)
        second.load_state_dict(first.state_dict())
        theirs.load_state_tensors({k: v.clone() for k, v in ours.state_tensors().items()})
        step(first, ours)
        step(second, theirs)
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(a, b)


@given(
    st.sampled_from(["wsd", "cosine", "linear", "constant"]),
    st.integers(1, 400),
    st.integers(0, 100),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_the_rate_stays_between_its_ends(
    schedule: str, steps: int, warmup: int, cooldown_frac: float, final_frac: float
) -> None:
    shares = [
        lr_share(
            schedule,
            step,
            steps=steps,
            warmup_steps=warmup,
            cooldown_frac=cooldown_frac,
            final_lr_frac=final_frac,
        )
        for step in range(steps)
    ]
    assert all(0.0 <= share <= 1.0 for share in shares)
    falling = shares[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(falling))


def test_wsd_stays_and_then_falls_in_a_line() -> None:
    def at(step: int) -> float:
        return lr_share(
            "wsd", step, steps=100, warmup_steps=10, cooldown_frac=0.4, final_lr_frac=0.1
        )

    assert [at(10), at(35), at(60)] == [1.0, 1.0, 1.0]
    assert at(80) == pytest.approx(0.55)
    assert at(100) == pytest.approx(0.1)


def test_momentum_rises_to_its_peak() -> None:
    assert momentum_at(0, 0.95) == 0.85
    assert momentum_at(300, 0.95) == momentum_at(900, 0.95) == 0.95
    assert momentum_at(0, 0.5) == 0.5
