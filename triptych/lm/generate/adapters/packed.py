"""LoRA adapters beside the packed weights of the torch engine, chosen for each row of a product.

The base's product is shared by all rows. What an adapter adds is computed for each answer alone,
so an answer never depends on what else is in the batch. Left out: the base (`decoder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych.lm.model.config import ModelConfig
from triptych.lm.model.lora import LoraLinear, load_lora
from triptych.lm.model.transformer import Linear, Transformer

Place = Literal["qkv", "out", "gate_up", "down"]
#: The maps of a layer that the decoder multiplies by at once, in the order of their rows; a model
#: has them one by one or fused.
PLACES: dict[Place, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.qkv_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True)
class Factors:
    """What an adapter adds to one product: `x A^T B^T`, the scale inside B.

    Shape: A (ranks, in), B (out, ranks), the ranks of all maps of the product side by side.
    """

    a: Tensor
    b: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Shape: (M, in) to (M, out)."""
        return F.linear(F.linear(x, self.a), self.b)


class PackedAdapter:
    """One adapter, laid out as the decoder lays out its base."""

    def __init__(self, layers: Sequence[dict[Place, Factors]]) -> None:
        self._layers = layers

    def at(self, layer: int, place: Place) -> Factors | None:
        """Return what is added to a product; None where the adapter leaves it alone."""
        return self._layers[layer].get(place)


#: Which rows of a product an adapter is added to.
Rows = Sequence[tuple[slice, PackedAdapter]]


def add_adapters(y: Tensor, x: Tensor, rows: Rows, layer: int, place: Place) -> Tensor:
    """Add to the product of the base what each answer's adapter adds to its rows, in place.

    Shape: y (M, out), x (M, in); returns y.
    """
    for part, adapter in rows:
        factors = adapter.at(layer, place)
        if factors is not None:
            y[part] += factors(x[part])
    return y


def load_packed(
    folder: Path, config: ModelConfig, qkv_order: Tensor, dtype: torch.dtype, device: torch.device
) -> PackedAdapter:
    """Load a PEFT folder for a decoder of that model.

    Shape: `qkv_order` (rows of qkv,): the order in which the decoder keeps them.
    Raises: CheckpointError where the folder is torn, more than plain LoRA, or of another model.
    """
    with torch.device("meta"):
        model = Transformer(config)
    load_lora(folder, model, device="cpu")
    layers = [
        {
            place: factors
            for place, names in PLACES.items()
            if (factors := _factors(_present(block, names)))
        }
        for block in model.model.layers
    ]
    for found in layers:
        if "qkv" in found:
            found["qkv"] = Factors(found["qkv"].a, found["qkv"].b[qkv_order.cpu()])
    return PackedAdapter(
        [
            {at: Factors(f.a.to(device, dtype), f.b.to(device, dtype)) for at, f in found.items()}
            for found in layers
        ]
    )


def _present(block: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    here = dict(block.named_modules())
    return [here[name] for name in names if name in here]


def _factors(maps: Sequence[nn.Module]) -> Factors | None:
    """Put the factors of maps that are one product side by side; None where none has any."""
    adapted = [one for one in maps if isinstance(one, LoraLinear)]
    if not adapted:
        return None
    a = torch.cat([one.lora_A.detach() for one in adapted])
    b = torch.zeros(sum(one.out_features for one in maps if isinstance(one, Linear)), len(a))
    row = rank = 0
    for one in maps:
        assert isinstance(one, Linear)
        if isinstance(one, LoraLinear):
            width = one.config.rank
            b[row : row + one.out_features, rank : rank + width] = (
                one.lora_B.detach() * one.config.scale
            )
            rank += width
        row += one.out_features
    return Factors(a, b)
