"""The output head and its cross-entropy in one piece, so that the logits never exist at once.

Left out: the head's plain logits, which generation wants (`Transformer.forward`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
# Rows of one matrix product, and rows whose softmax fits a processor's cache.
CHUNK, TILE = 512, 32
GPU_CHUNK = 4096


@torch.compiler.disable
def head_loss(hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
    """Return the mean cross-entropy of `hidden @ weight.T` against the targets.

    Shape: (N, C), (V, C) and (N,) to a float32 scalar; targets of -100 do not count.
    """
    if not torch.is_grad_enabled():
        losses = head_token_losses(hidden_NC, weight_VC, targets_N)
        return losses.sum() / (targets_N != IGNORED).sum().clamp(min=1)
    loss: Tensor = _HeadLoss.apply(hidden_NC, weight_VC, targets_N)  # type: ignore[no-untyped-call]
    return loss


def head_token_losses(hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
    """Return each token's cross-entropy, without gradients.

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
    """Compute loss and gradients chunk by chunk in the forward pass; backward only multiplies.

    A chunk's logits stay in the processor's cache while the softmax, one pass over them, turns
    them into gradients. A target less probable than the smallest normal float32 counts as that.
    """

    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
        """Shape: (N, C), (V, C), (N,) to a float32 scalar."""
        weight = weight_VC.detach().to(hidden_NC.dtype)
        tiny = torch.finfo(torch.float32).tiny
        counted_N = targets_N != IGNORED
        picked_N1 = targets_N.clamp(min=0)[:, None]
        losses = []
        grad_hidden = torch.empty_like(hidden_NC)
        grad_logits = hidden_NC.new_empty((hidden_NC.shape[0], weight.shape[0]))
        chunk, height = (CHUNK, TILE) if hidden_NC.device.type == "cpu" else (GPU_CHUNK, GPU_CHUNK)
        tile = torch.empty((height, weight.shape[0]), device=hidden_NC.device)
        for start in range(0, hidden_NC.shape[0], chunk):
            rows = slice(start, start + chunk)
            torch.mm(hidden_NC[rows], weight.T, out=grad_logits[rows])
            for logits, picked in zip(
                torch.split(grad_logits[rows], height),
                torch.split(picked_N1[rows], height),
                strict=True,
            ):
                probabilities = tile[: len(logits)].copy_(logits)
                torch.softmax(probabilities, -1, out=probabilities)
                chances = probabilities.gather(1, picked)
                losses.append(chances.clamp(min=tiny).log())
                # The gradient of -log softmax(x)[target] is softmax(x), less 1 at the target.
                logits.copy_(probabilities.scatter_(1, picked, chances - 1))
            torch.mm(grad_logits[rows], weight, out=grad_hidden[rows])
        scale_N1 = (counted_N / counted_N.sum().clamp(min=1))[:, None]
        ctx.save_for_backward(grad_hidden, grad_logits, hidden_NC, scale_N1)
        ctx.weight_dtype = weight_VC.dtype
        return -(torch.cat(losses) * scale_N1).sum()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Shape: a scalar to the gradients (N, C) and (V, C), the latter only where wanted."""
        grad_hidden, grad_logits, hidden, scale_N1 = ctx.saved_tensors
        scale = (scale_N1 * grad_loss).to(hidden.dtype)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad_logits.T @ (hidden * scale)).to(ctx.weight_dtype)
        return grad_hidden * scale, grad_weight, None
