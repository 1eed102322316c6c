"""Norms of the decoder: RMSNorm with a gradient in closed form, and the form of Gemma."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from triptych.lm.model.config import ModelConfig


class RMSNorm(nn.Module):
    """Divide by the root mean square, in float32, then scale.

    Source: Zhang and Sennrich 2019.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def scale(self) -> Tensor:
        """Return the factor on the normalised values.

        Shape: (C,).
        """
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., C) to (..., C)."""
        if torch.compiler.is_compiling():
            scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
            return (x.float() * scale).to(x.dtype) * self.weight.to(x.dtype)
        normalised: Tensor = _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return normalised


class OffsetRMSNorm(RMSNorm):
    """An RMSNorm whose weight is stored as its difference from one, as in Gemma."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)
        nn.init.zeros_(self.weight)

    def scale(self) -> Tensor:
        """Return the factor on the normalised values.

        Shape: (C,).
        """
        return 1.0 + self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., C) to (..., C)."""
        # In float32 until the end: 1 + w would lose the small w in half precision.
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return (x.float() * scale * (1.0 + self.weight.float())).to(x.dtype)


def norm(config: ModelConfig, width: int | None = None) -> RMSNorm:
    """Build a norm of the model's family, as wide as the stream unless `width` says otherwise."""
    kind = OffsetRMSNorm if config.family.gemma else RMSNorm
    return kind(width or config.hidden_size, config.rms_norm_eps)


class _RMSNorm(torch.autograd.Function):
    """The gradient in closed form: half the time of what autograd derives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Shape: (..., C), (C,) to (..., C)."""
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
        unit = (x.float() * scale).to(x.dtype)
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Shape: (..., C) to the gradients (..., C) and (C,).

        With u = x * scale and scale = 1 / rms(x), which itself depends on x:
        dx = scale * (g - u * mean(g * u)), where g is the gradient of u.
        """
        unit, scale, weight = ctx.saved_tensors
        by_unit = grad * unit
        grad_weight = by_unit.flatten(0, -2).sum(0, dtype=torch.float32)
        narrow = weight.to(grad.dtype)
        along = (by_unit @ narrow).float()[..., None] / grad.shape[-1]
        grad_x = torch.addcmul((grad * narrow).float(), unit.float(), along, value=-1) * scale
        return grad_x.to(grad.dtype), grad_weight.to(weight.dtype), None
