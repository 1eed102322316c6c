"""Attention in training is causal, forward and backward, on every path it takes."""

from __future__ import annotations

import pytest
import torch

from triptych.lm.model.attention import BLOCK, causal_attention

LENGTHS = [7, BLOCK, BLOCK + 5, 2 * BLOCK + 33]


def tensors(length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(length)
    shapes = [(2, 4, length, 16), (2, 2, length, 16), (2, 2, length, 16)]
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", LENGTHS)
def test_no_position_reads_or_teaches_a_later_one(length: int, dtype: torch.dtype) -> None:
    q, k, v = tensors(length, dtype)
    for position in {0, length // 2, length - 2}:
        for tensor in (q, k, v):
            tensor.grad = None
        causal_attention(q, k, v)[:, :, position].sum().backward()
        for tensor in (q, k, v):
            assert tensor.grad is not None
            assert not tensor.grad[:, :, position + 1 :].any()
