"""How weights, norms and positions are laid out for generation: few rows at a time.

Left out: what is done with them (`decoder`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.lm.model.config import ModelConfig
from triptych.lm.model.norms import RMSNorm
from triptych.lm.model.rope import rope_table

LinearMap = Callable[[Tensor], Tensor]
# oneDNN multiplies one row by another kernel, with another rounding, than two or more.
MIN_ROWS = 2


class PackedNorm:
    """The root mean square norm, in four operations where torch's own takes nine on a CPU."""

    def __init__(self, weight: Tensor, eps: float, device: torch.device) -> None:
        """Shape: weight (..., C)."""
        width = weight.shape[-1]
        self.weight = weight.detach().to(device, torch.float32) * width**0.5
        self._least = torch.tensor((width * eps) ** 0.5, device=device)

    def length(self, x: Tensor) -> Tensor:
        """Return the root of the sum of squares, with the eps of the mean inside.

        sqrt(mean + eps) = sqrt(sum + C eps) / sqrt(C); the last factor is in `weight`.

        Shape: (..., C) to (..., 1).
        """
        norm: Tensor = torch.linalg.vector_norm(x, 2, -1, True)
        return norm.hypot_(self._least)

    def __call__(self, x_MC: Tensor, out_MC: Tensor) -> Tensor:
        """Write the normalised rows in the precision of `out_MC`.

        Shape: (M, C) to (M, C).
        """
        return torch.mul(x_MC / self.length(x_MC), self.weight, out=out_MC)


def pair_order(config: ModelConfig) -> Tensor:
    """Return the order in which half-split pairs (i, i + R/2) become neighbours (2i, 2i + 1).

    `view_as_complex` takes them as one complex number: to rotate is then one product. What lies
    behind the R entries of a head that rotate stays where it is.

    Shape: (H,).
    """
    turned = torch.arange(config.rotary_dim).view(2, -1).t().flatten()
    return torch.cat((turned, torch.arange(config.rotary_dim, config.head_dim)))


def qkv_order(config: ModelConfig) -> Tensor:
    """Return the order of the rows of queries, keys and values.

    Queries and keys are reordered alike, so their dot products stay; values are neither rotated
    nor reordered.

    Shape: ((N + 2 K) * H,).
    """
    rotated, shared = config.num_attention_heads, config.num_key_value_heads
    rows = torch.arange((rotated + 2 * shared) * config.head_dim).view(-1, config.head_dim)
    rows[: rotated + shared] = rows[: rotated + shared, pair_order(config)]
    return rows.flatten()


def pack_norm(norm: RMSNorm, device: torch.device) -> PackedNorm:
    """Lay a norm of the transformer out for generation."""
    return PackedNorm(norm.scale(), norm.eps, device)


def turns_of(config: ModelConfig, device: torch.device, *, local: bool = False) -> Tensor:
    """Return how far each pair of a head turns at each position; pairs that do not turn are 1.

    Shape: complex (T, 1, H/2).
    """
    turns = torch.complex(*rope_table(config, config.max_position_embeddings, local=local))
    still = (config.head_dim - config.rotary_dim) // 2
    if still:
        turns = torch.cat((turns, turns.new_ones((len(turns), still))), dim=-1)
    return turns.to(device)[:, None]


def pack_linear(weight: Tensor, bias: Tensor | None) -> LinearMap:
    """Lay a weight out for few rows, where this build of torch can (oneDNN); else keep it.

    Shape: weight (out, in), bias (out,); the map takes (M, in) to (M, out).
    Source: measured: benchmarks/results/generate.md.
    """
    if weight.device.type == "cpu" and torch._C._has_mkldnn:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), MIN_ROWS)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)
