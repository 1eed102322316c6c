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


def head_losses(hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
    """Return each token's cross-entropy, with gradients; no target is ignored.

    Shape: (N, C), (V, C) and (N,) to float32 (N,).
    """
    if not torch.is_grad_enabled():
        return head_token_losses(hidden_NC, weight_VC, targets_N)
    losses: Tensor = _HeadLosses.apply(hidden_NC, weight_VC, targets_N)  # type: ignore[no-untyped-call]
    return losses


def _losses_and_gradients(
    hidden_NC: Tensor, weight: Tensor, picked_N1: Tensor, *, keep_logits: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the log-probability of each target, and the gradients of its negative.

    A chunk's logits stay in the processor's cache while the softmax, one pass over them, turns
    them into gradients. A target less probable than the smallest normal float32 counts as that.

    Shape: (N, C), (V, C), (N, 1) to (N, 1), (N, C) and (N, V); the last only where it is wanted.
    """
    tiny = torch.finfo(torch.float32).tiny
    losses = []
    grad_hidden = torch.empty_like(hidden_NC)
    chunk, height = (CHUNK, TILE) if hidden_NC.device.type == "cpu" else (GPU_CHUNK, GPU_CHUNK)
    rows_kept = hidden_NC.shape[0] if keep_logits else min(chunk, hidden_NC.shape[0])
    grad_logits = hidden_NC.new_empty((rows_kept, weight.shape[0]))
    tile = torch.empty((height, weight.shape[0]), device=hidden_NC.device)
    for start in range(0, hidden_NC.shape[0], chunk):
        rows = slice(start, start + chunk)
        hidden = hidden_NC[rows]
        grads = grad_logits[rows] if keep_logits else grad_logits[: len(hidden)]
        torch.mm(hidden, weight.T, out=grads)
        for logits, picked in zip(
            torch.split(grads, height), torch.split(picked_N1[rows], height), strict=True
        ):
            probabilities = tile[: len(logits)].copy_(logits)
            torch.softmax(probabilities, -1, out=probabilities)
            chances = probabilities.gather(1, picked)
            losses.append(chances.clamp(min=tiny).log())
            # The gradient of -log softmax(x)[target] is softmax(x), less 1 at the target.
            logits.copy_(probabilities.scatter_(1, picked, chances - 1))
        torch.mm(grads, weight, out=grad_hidden[rows])
    return torch.cat(losses), grad_hidden, grad_logits if keep_logits else None


class _HeadLosses(torch.autograd.Function):
    """The loss of every token; backward scales each row by what flows into its loss."""

    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
        weight = weight_VC.detach().to(hidden_NC.dtype)
        logs, grad_hidden, grad_logits = _losses_and_gradients(
            hidden_NC, weight, targets_N[:, None], keep_logits=ctx.needs_input_grad[1]
        )
        kept = (hidden_NC, grad_logits) if grad_logits is not None else ()
        ctx.save_for_backward(grad_hidden, *kept)
        ctx.weight_dtype = weight_VC.dtype
        return -logs[:, 0]

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, Tensor | None, None]:
        grad_hidden, *kept = ctx.saved_tensors
        scale = grad_N[:, None].to(grad_hidden.dtype)
        grad_weight = None
        if kept:
            hidden, grad_logits = kept
            grad_weight = (grad_logits.T @ (hidden * scale)).to(ctx.weight_dtype)
        return grad_hidden * scale, grad_weight, None


class _HeadLoss(torch.autograd.Function):
    """The mean loss, with the gradients computed in the forward pass; backward only multiplies."""

    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor) -> Tensor:
        """Shape: (N, C), (V, C), (N,) to a float32 scalar."""
        weight = weight_VC.detach().to(hidden_NC.dtype)
        counted_N = targets_N != IGNORED
        logs, grad_hidden, grad_logits = _losses_and_gradients(
            hidden_NC, weight, targets_N.clamp(min=0)[:, None], keep_logits=True
        )
        scale_N1 = (counted_N / counted_N.sum().clamp(min=1))[:, None]
        ctx.save_for_backward(grad_hidden, grad_logits, hidden_NC, scale_N1)
        ctx.weight_dtype = weight_VC.dtype
        return -(logs * scale_N1).sum()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Shape: a scalar to the gradients (N, C) and (V, C), the latter only where wanted."""
        grad_hidden, grad_logits, hidden, scale_N1 = ctx.saved_tensors
        scale = (scale_N1 * grad_loss).to(hidden.dtype)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad_logits.T @ (hidden * scale)).to(ctx.weight_dtype)
        return grad_hidden * scale, grad_weight, None
