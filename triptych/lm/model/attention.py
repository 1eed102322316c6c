"""Causal attention for training, by the fastest way this machine has.

On a GPU, and in float32 on a CPU, that is torch's own kernel. In bfloat16 on a CPU that kernel
takes two to three times as long as the matrix products it consists of, so there the products are
written out, block by block of queries, with a backward pass of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Queries of one block; a block sees no key after its own last one.
BLOCK = 256
# The probabilities are kept for the backward pass; longer texts take torch's kernel instead.
MAX_LENGTH = 1024


def causal_attention(
    q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor, window: int | None = None
) -> Tensor:
    """Let every position see itself and those before it; query heads may share keys.

    With a window of w, a position sees itself and the w - 1 before it.

    Shape: (B, N, T, H), (B, K, T, H), (B, K, T, H) to (B, N, T, H).
    Source: measured: benchmarks/results/train.md.
    """
    length = q_BNTH.shape[2]
    if window is not None and window < length:
        return attention_with_past(q_BNTH, k_BKTH, v_BKTH, window)
    by_hand = q_BNTH.device.type == "cpu" and q_BNTH.dtype == torch.bfloat16
    if by_hand and torch.is_grad_enabled() and length <= MAX_LENGTH:
        attended: Tensor = _BlockedAttention.apply(q_BNTH, k_BKTH, v_BKTH)  # type: ignore[no-untyped-call]
        return attended
    return F.scaled_dot_product_attention(
        q_BNTH,
        k_BKTH,
        v_BKTH,
        is_causal=True,
        enable_gqa=q_BNTH.shape[1] != k_BKTH.shape[1],
    )


def packed_attention(
    q_BNTH: Tensor,
    k_BKTH: Tensor,
    v_BKTH: Tensor,
    lengths: Sequence[int],
    window: int | None = None,
) -> Tensor:
    """Attend within each of the texts that lie one after another, so that none sees another.

    Shape: as `causal_attention`; T is the sum of `lengths`.
    """
    parts = [torch.split(x, list(lengths), dim=2) for x in (q_BNTH, k_BKTH, v_BKTH)]
    texts = zip(*parts, strict=True)
    return torch.cat([causal_attention(q, k, v, window) for q, k, v in texts], dim=2)


def attention_with_past(
    q_BNTH: Tensor, k_BKSH: Tensor, v_BKSH: Tensor, window: int | None = None
) -> Tensor:
    """Let the last T of S positions see everything up to themselves, or a window of it.

    Shape: (B, N, T, H), (B, K, S, H), (B, K, S, H) to (B, N, T, H).
    """
    length, total = q_BNTH.shape[2], k_BKSH.shape[2]
    # Row t is position S - T + t; torch's own causal mask would take it for position t.
    seen = torch.ones((length, total), dtype=torch.bool, device=q_BNTH.device).tril(total - length)
    if window is not None:
        seen = seen.triu(total - length - window + 1)
    return F.scaled_dot_product_attention(
        q_BNTH,
        k_BKSH,
        v_BKSH,
        attn_mask=seen,
        enable_gqa=q_BNTH.shape[1] != k_BKSH.shape[1],
    )


class _BlockedAttention(torch.autograd.Function):
    """Softmax attention over blocks of queries, with its own backward pass.

    Query heads that share a key head are laid as rows of one product: G = N / K heads, and a block
    of b queries of all of them is one matrix of G * b rows against the keys up to its last query.
    """

    @staticmethod
    def forward(ctx: Any, q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor) -> Tensor:
        """Shape: (B, N, T, H), (B, K, T, H), (B, K, T, H) to (B, N, T, H)."""
        batch, heads, length, width = q_BNTH.shape
        shared = k_BKTH.shape[1]
        q = (q_BNTH * width**-0.5).reshape(batch * shared, heads // shared, length, width)
        k, v = k_BKTH.reshape(-1, length, width), v_BKTH.reshape(-1, length, width)
        y = torch.empty_like(q)
        every = []
        for start, stop in _blocks(length):
            rows = (batch * shared, heads // shared, stop - start, -1)
            q_block = q[:, :, start:stop].flatten(1, 2)
            scores = torch.bmm(q_block, k[:, :stop].transpose(1, 2))
            # Only the square on the diagonal is partly hidden; keys before `start` are all seen.
            mask = torch.full((stop - start,) * 2, -torch.inf, dtype=q.dtype).triu(1)
            scores.view(rows)[..., start:] += mask
            probabilities = scores.softmax(-1)
            y[:, :, start:stop] = torch.bmm(probabilities, v[:, :stop]).view(rows)
            every.append(probabilities)
        ctx.save_for_backward(q, k, v, y, *every)
        return y.view(q_BNTH.shape)

    @staticmethod
    def backward(ctx: Any, grad_BNTH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shape: (B, N, T, H) to the gradients of q, k and v, shaped as those.

        With S = q k^T, P = softmax(S) and y = P v, and dX the gradient of X:
        dv = P^T dy;  dP = dy v^T;  dS = P * (dP - rowsum(P * dP));  dq = dS k;  dk = dS^T q.
        The sum along a row is rowsum(P * dP) = dy . y, so it needs neither P nor dP, and one pass
        over the blocks is enough.

        Source: Dao 2023 (FlashAttention-2), the backward pass.
        """
        q, k, v, y, *every = ctx.saved_tensors
        grad = grad_BNTH.reshape(q.shape)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        # rowsum(P * dP), in one go for all queries.
        weighted = (grad * y).sum(-1)
        for (start, stop), probabilities in zip(_blocks(q.shape[2]), every, strict=True):
            q_block = q[:, :, start:stop].flatten(1, 2)
            grad_block = grad[:, :, start:stop].flatten(1, 2)
            # Keys and values are seen by several blocks and gather from all; a query is in one.
            grad_v[:, :stop] += torch.bmm(probabilities.transpose(1, 2), grad_block)
            grad_scores = torch.bmm(grad_block, v[:, :stop].transpose(1, 2))
            grad_scores -= weighted[:, :, start:stop].flatten(1)[..., None]
            grad_scores *= probabilities
            rows = (*q.shape[:2], stop - start, -1)
            grad_q[:, :, start:stop] = torch.bmm(grad_scores, k[:, :stop]).view(rows)
            grad_k[:, :stop] += torch.bmm(grad_scores.transpose(1, 2), q_block)
        batch, shared = grad_BNTH.shape[0], k.shape[0] // grad_BNTH.shape[0]
        # q was scaled on the way in: dk has that factor already, dq does not.
        grad_q *= q.shape[-1] ** -0.5
        keys = (batch, shared, *k.shape[1:])
        return grad_q.view(grad_BNTH.shape), grad_k.view(keys), grad_v.view(keys)


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
