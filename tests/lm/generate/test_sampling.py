"""How tokens are drawn: `transformers` warpers are the oracle of what the filters keep."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from pydantic import ValidationError
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from triptych.lm.generate.engine import Sampling
from triptych.lm.generate.sampling import Sampler, candidates


def logits(size: int = 1000, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def distribution(row: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    ids, probabilities = candidates(row, sampling)
    if ids is None:
        return probabilities
    return torch.zeros_like(row).index_copy(0, ids, probabilities)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    list(itertools.product([0.7, 1.5], [0, 1, 40], [1.0, 0.9, 0.999, 0.01, 0.0], [0.0, 0.05])),
)
def test_the_filters_leave_what_transformers_leaves(
    temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    row = logits()
    expected = TemperatureLogitsWarper(temperature)(None, row[None])
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    if min_p:
        expected = MinPLogitsWarper(min_p)(None, expected)
    ours = distribution(
        row, Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    )
    assert torch.allclose(ours, expected[0].softmax(0), atol=1e-6)


def test_the_repetition_penalty_is_the_one_of_transformers() -> None:
    row, prompt = logits(), [3, 5, 5, 900]
    penalise = RepetitionPenaltyLogitsProcessor(1.3)
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=1.3), prompt)
    written = list(prompt)
    for _ in range(30):
        expected = int(penalise(torch.tensor([written]), row[None]).argmax())
        assert sampler.draw(row) == expected
        written.append(expected)


def test_draws_follow_the_probabilities() -> None:
    row = torch.tensor([2.0, 1.0, 0.0, -1.0])
    sampler = Sampler(Sampling(temperature=1.0, seed=1), [])
    counts = Counter(sampler.draw(row) for _ in range(20_000))
    for token_id, expected in enumerate(row.softmax(0).tolist()):
        assert counts[token_id] / 20_000 == pytest.approx(expected, abs=0.012)


def test_greedy_takes_the_most_probable_token() -> None:
    row = logits()
    assert Sampler(Sampling(temperature=0, top_k=5, seed=3), []).draw(row) == int(row.argmax())


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": -0.1},
        {"top_p": 1.1},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"max_new_tokens": 0},
        {"logprobs": 51},
        {"seed": -1},
        {"temprature": 1.0},
    ],
)
def test_a_value_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Sampling(**wrong)
