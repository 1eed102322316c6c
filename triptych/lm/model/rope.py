"""Rotary positions: the frequencies of every known stretching, and the rotation itself.

Left out: sliding windows and the types that change their frequencies while they run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from triptych.lm.model.config import ModelConfig


def rope_table(config: ModelConfig, length: int, *, local: bool = False) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of every position's angles, in float32.

    `local`: with the base of layers that see a window (Gemma 3), never stretched.

    Shape: both (T, R/2), R the entries of a head that are turned.
    Source: Su et al. 2021 (RoFormer); Llama 3.1 and YaRN (Peng et al. 2023) for the stretchings.
    """
    if local:
        config = replace(config, rope_theta=config.rope_local_base_freq, rope_scaling=None)
    frequencies, magnitude = _frequencies(config)
    angles = torch.arange(length, dtype=torch.float32, device="cpu")[:, None] * frequencies
    return angles.cos() * magnitude, angles.sin() * magnitude


def rotate(x_BNTH: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> Tensor:
    """Turn each head's pairs (i, i + R/2) by the angle of their position.

    Shape: x (..., T, H), cos and sin (T, R/2) or anything that broadcasts; gives (..., T, H).
    What lies behind the first R of the H entries is left as it is.
    """
    turned = 2 * cos_TR.shape[-1]
    if turned < x_BNTH.shape[-1]:
        first = rotate(x_BNTH[..., :turned], cos_TR, sin_TR)
        return torch.cat((first, x_BNTH[..., turned:]), dim=-1)
    if torch.compiler.is_compiling():
        first, second = x_BNTH.chunk(2, dim=-1)
        parts = (first * cos_TR - second * sin_TR, second * cos_TR + first * sin_TR)
        return torch.cat(parts, dim=-1)
    rotated: Tensor = _Rotation.apply(x_BNTH, cos_TR, sin_TR)  # type: ignore[no-untyped-call]
    return rotated


class _Rotation(torch.autograd.Function):
    """The gradient of a rotation is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Shape: (..., T, H), (T, H/2), (T, H/2) to (..., T, H)."""
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Shape: (..., T, H) to (..., T, H); angles are constants."""
        cos, sin = ctx.saved_tensors
        return _rotate(grad, cos, -sin), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Shape: (..., T, H), (T, H/2), (T, H/2) to (..., T, H)."""
    first, second = x.chunk(2, dim=-1)
    rotated = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    half = first.shape[-1]
    torch.mul(first, cos, out=rotated[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=rotated[..., half:]).addcmul_(first, sin)
    return rotated


def _frequencies(config: ModelConfig) -> tuple[Tensor, float]:
    """Return the angle per position of each pair, and the factor on cosine and sine.

    Shape: (H/2,).
    """
    scaling = config.rope_scaling or {}
    pairs = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32, device="cpu")
    exponents = pairs / config.rotary_dim
    base = 1.0 / config.rope_theta**exponents
    match config.rope_type:
        case "linear":
            return base / scaling["factor"], 1.0
        case "llama3":
            return _llama3(base, scaling), 1.0
        case "yarn":
            return _yarn(base, config, scaling)
    return base, 1.0


def _llama3(base: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Slow long wavelengths down by `factor`, keep short ones, blend between.

    Shape: (H/2,) to (H/2,).
    """
    factor, low, high = (
        float(scaling[key]) for key in ("factor", "low_freq_factor", "high_freq_factor")
    )
    context = float(scaling["original_max_position_embeddings"])
    wavelength = 2 * math.pi / base
    slowed = torch.where(wavelength > context / low, base / factor, base)
    blend = (context / wavelength - low) / (high - low)
    blended = (1 - blend) * slowed / factor + blend * slowed
    between = (wavelength >= context / high) & (wavelength <= context / low)
    return torch.where(between, blended, slowed)


def _yarn(base: Tensor, config: ModelConfig, scaling: Mapping[str, Any]) -> tuple[Tensor, float]:
    """Interpolate slow pairs, keep fast ones, with a ramp between; sharpen the attention.

    Shape: (H/2,) to (H/2,), and the factor on cosine and sine.
    """
    context = float(
        scaling.get("original_max_position_embeddings") or config.max_position_embeddings
    )
    factor = float(scaling.get("factor") or config.max_position_embeddings / context)
    width = config.head_dim

    # The (fractional) pair that turns this often over the original context:
    # context * theta^(-2i/H) = 2 pi rotations, solved for i.
    def pair_with(rotations: float) -> float:
        return (
            width
            * math.log(context / (rotations * 2 * math.pi))
            / (2 * math.log(config.rope_theta))
        )

    low = pair_with(float(scaling.get("beta_fast") or 32))
    high = pair_with(float(scaling.get("beta_slow") or 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    pairs = torch.arange(width // 2, dtype=torch.float32, device="cpu")
    keep = 1 - ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)
    return base / factor * (1 - keep) + base * keep, _yarn_magnitude(factor, scaling)


def _yarn_magnitude(factor: float, scaling: Mapping[str, Any]) -> float:
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])

    def magnitude(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return magnitude(scaling["mscale"]) / magnitude(scaling["mscale_all_dim"])
    return magnitude(1.0)
