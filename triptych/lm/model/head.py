"""The output head and its cross-entropy in one piece, so that the logits never exist at once.

Left out: the head's plain logits, which generation wants (`Transformer.forward`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
CHUNK = 256


def head_loss(hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
    """Give the mean cross-entropy of `hidden @ weight.T` against the targets.

    Shape: (N, C), (V, C) and (N,) to a float32 scalar; targets of -100 do not count.
    """
    loss: Tensor = _HeadLoss.apply(hidden_NC, weight_VC, targets_N)  # type: ignore[no-untyped-call]
    return loss


def head_token_losses(hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
    """Give each token's cross-entropy, without gradients.

    Shape: (N, C), (V, C) and (N,) to float32 (N,); 0 where the target is -100.
    """
    weight = weight_VC.to(hidden_NC.dtype)
    losses = [
        F.cross_entropy(
            F.linear(hidden, weight).float(), targets, ignore_index=IGNORED, reduction="none"
        )
        for hidden, targets in zip(
            torch.split(hidden_NC, CHUNK), torch.split(targets_N, CHUNK), strict=True
        )
    ]
    return torch.cat(losses)


class _HeadLoss(torch.autograd.Function):
    """Compute loss and gradients chunk by chunk in the forward pass; backward only scales."""

    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
        weight = weight_VC.detach().to(hidden_NC.dtype)
        counted = (targets_N != IGNORED).sum().clamp(min=1)
        total = torch.zeros((), dtype=torch.float32, device=hidden_NC.device)
        grad_hidden = torch.empty_like(hidden_NC)
        grad_logits = torch.empty(
            (hidden_NC.shape[0], weight.shape[0]), dtype=hidden_NC.dtype, device=hidden_NC.device
        )
        for start in range(0, hidden_NC.shape[0], CHUNK):
            rows = slice(start, start + CHUNK)
            targets = targets_N[rows]
            logits = F.linear(hidden_NC[rows], weight).float()
            valid = targets != IGNORED
            picked = targets.clamp(min=0)[:, None]
            lse = logits.logsumexp(-1)
            total += ((lse - logits.gather(1, picked)[:, 0]) * valid).sum()
            grad = logits.sub_(lse[:, None]).exp_()
            grad.scatter_add_(1, picked, torch.full_like(picked, -1, dtype=grad.dtype))
            grad_logits[rows] = grad * (valid / counted)[:, None]
            torch.mm(grad_logits[rows], weight, out=grad_hidden[rows])
        ctx.save_for_backward(grad_hidden, grad_logits, hidden_NC)
        ctx.weight_dtype = weight_VC.dtype
        return total / counted

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_logits, hidden = ctx.saved_tensors
        grad_weight = (grad_logits.T @ hidden).to(ctx.weight_dtype)
        return grad_hidden * grad_loss, grad_weight * grad_loss, None
