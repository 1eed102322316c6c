"""Low-rank adapters: a small trained difference beside frozen weights, stored as PEFT stores it.

Attach, train with any trainer (only the adapter asks for gradients), save the adapter alone, or
merge it into the weights. Left out: adapters chosen per request (`lm/generate/adapters`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from triptych.durable import atomic_folder, write_atomic
from triptych.errors import CheckpointError, ConfigError
from triptych.lm.model.adapter_record import CONFIG
from triptych.lm.model.tensors import save_tensors
from triptych.lm.model.transformer import Linear, Transformer

WEIGHTS = "adapter_model.safetensors"
ALL_LINEAR = (
    "q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj",
    "gate_proj", "up_proj", "gate_up_proj", "down_proj",
)  # fmt: skip
_PREFIX = "base_model.model."


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which maps get an adapter, and how large it is; layers below `first_layer` get none.

    Raises: ConfigError where rank or names are impossible.
    Source: Hu et al. 2021.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ALL_LINEAR
    rank_stabilised: bool = False
    first_layer: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"a LoRA of rank {self.rank} with dropout {self.dropout} is impossible",
                hint="use a rank of at least 1 and a dropout from 0 to below 1",
            )
        unknown = sorted(set(self.target_modules) - set(ALL_LINEAR))
        if unknown or not self.target_modules:
            raise ConfigError(
                f"LoRA cannot be put on {', '.join(unknown) or 'nothing'}",
                hint="choose among " + ", ".join(ALL_LINEAR),
            )

    @property
    def scale(self) -> float:
        """Return the factor on the adapter's product."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


class LoraLinear(Linear):
    """A frozen linear map plus `scale * B @ A`; B starts at zero, so nothing changes at first."""

    def __init__(self, base: Linear, config: LoraConfig, device: str | None = None) -> None:
        super().__init__(base.in_features, base.out_features, bias=False, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.config = config
        place = device or base.weight.device
        self.lora_A = nn.Parameter(torch.empty(config.rank, base.in_features, device=place))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, config.rank, device=place))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)
        self.active = True

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (..., in) to (..., out)."""
        if not self.active:
            return super().forward(x)
        dropped = F.dropout(x, self.config.dropout, self.training)
        narrow = F.linear(dropped, self.lora_A.to(x.dtype))
        return super().forward(x) + F.linear(narrow, self.lora_B.to(x.dtype)) * self.config.scale

    def effective_weight(self) -> Tensor:
        """Return the weight with the adapter merged in.

        Shape: (out, in).
        """
        return self.weight + (self.lora_B @ self.lora_A * self.config.scale).to(self.weight.dtype)


def attach_lora(model: Transformer, config: LoraConfig, device: str | None = None) -> None:
    """Freeze a model and put a new adapter beside each of the named maps that it has.

    The adapter lies on the device of the weights, unless another is named.
    Raises: ConfigError where the model has none of the maps.
    """
    here = {name.rpartition(".")[2] for name, _ in model.model.named_modules()}
    present = tuple(name for name in config.target_modules if name in here)
    if not present:
        raise ConfigError(
            f"this model has no map {', '.join(config.target_modules)}",
            hint="choose among " + ", ".join(sorted(here & set(ALL_LINEAR))),
        )
    layers = list(model.model.layers)
    if not 0 <= config.first_layer < len(layers):
        raise ConfigError(
            f"lora.first_layer = {config.first_layer} is no layer of this model",
            hint=f"its layers are 0 to {len(layers) - 1}",
        )
    config = replace(config, target_modules=present)
    model.requires_grad_(False)
    for parent in [part for layer in layers[config.first_layer :] for part in layer.modules()]:
        for name, child in list(parent.named_children()):
            if name in config.target_modules and isinstance(child, Linear):
                assert not isinstance(child, LoraLinear), f"{name} has an adapter already"
                setattr(parent, name, LoraLinear(child, config, device))


def merge_lora(model: Transformer) -> None:
    """Add the adapter to the weights and take it off; everything can be trained again."""
    for _, parent, name, adapted in adapted_maps(model):
        merged = Linear(adapted.in_features, adapted.out_features, bias=False, device="meta")
        with torch.no_grad():
            merged.weight = nn.Parameter(adapted.effective_weight())
        merged.bias = adapted.bias
        setattr(parent, name, merged)
    model.requires_grad_(True)


@contextmanager
def without_adapter(model: Transformer) -> Iterator[None]:
    """Let the model answer as its base does, for as long as the block runs."""
    adapted = [module for module in model.modules() if isinstance(module, LoraLinear)]
    for module in adapted:
        module.active = False
    try:
        yield
    finally:
        for module in adapted:
            module.active = True


def lora_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return the adapter's tensors under the names PEFT uses; empty where none is attached.

    Shape: `lora_A` (rank, in), `lora_B` (out, rank) of each map.
    """
    tensors = {}
    for path, _, _, adapted in adapted_maps(model):
        tensors[f"{_PREFIX}{path}.lora_A.weight"] = adapted.lora_A.detach()
        tensors[f"{_PREFIX}{path}.lora_B.weight"] = adapted.lora_B.detach()
    return tensors


def save_lora(folder: Path, model: Transformer, base: str) -> None:
    """Write the adapter alone, as a PEFT folder that appears whole or not at all.

    `base` is the folder or repository of the model it belongs to.

    Raises: CheckpointError where no adapter is attached; StorageError where it cannot be written.
    """
    folder = Path(folder)
    config = next((adapted.config for *_, adapted in adapted_maps(model)), None)
    if config is None:
        raise CheckpointError("the model has no LoRA adapter", hint="attach one before training")
    if not folder.exists():
        with atomic_folder(folder) as temporary:
            save_lora(temporary, model, base)
        return
    save_tensors(lora_tensors(model), folder / WEIGHTS)
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "target_modules": list(config.target_modules),
        "layers_to_transform": _layers(config.first_layer, len(model.model.layers)),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }
    write_atomic(folder / CONFIG, json.dumps(described, indent=2, sort_keys=True) + "\n")


def _layers(first: int, count: int) -> list[int] | None:
    """Return the layers that have an adapter as PEFT names them; None for all."""
    return list(range(first, count)) if first else None


def load_lora(folder: Path, model: Transformer, device: str | None = None) -> None:
    """Attach the adapter of a PEFT folder to the model it belongs to.

    The model may have its weights on the meta device; `device` then says where the adapter lies.

    Raises: CheckpointError where the folder is torn, more than plain LoRA, or of another model.
    """
    folder = Path(folder)
    config = _read_config(folder)
    found = _read_tensors(folder)
    attach_lora(model, config, device)
    wanted = lora_tensors(model)
    differ = sorted(
        name
        for name in {*wanted, *found}
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    )
    if differ:
        raise CheckpointError(
            f"the adapter of {folder} does not fit this model: {differ[0]}",
            hint="load the model its adapter_config.json names as base_model_name_or_path",
        )
    for name, tensor in wanted.items():
        tensor.copy_(found[name])


def read_lora_parameters(folder: Path) -> dict[str, Tensor]:
    """Load a PEFT folder's tensors under the names of the model's parameters.

    Shape: each that of the parameter of its name.
    Raises: CheckpointError where the file is missing or torn.
    """
    return {
        name.removeprefix(_PREFIX).removesuffix(".weight"): tensor
        for name, tensor in _read_tensors(Path(folder)).items()
    }


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} is missing or torn: {error}", code="torn"
        ) from error


def _read_config(folder: Path) -> LoraConfig:
    file = folder / CONFIG
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read", hint="give a PEFT folder with adapter_config.json"
        ) from error
    plain = values.get("peft_type", "LORA") == "LORA" and values.get("bias", "none") == "none"
    if not plain or values.get("use_dora") or values.get("modules_to_save"):
        raise CheckpointError(f"{folder} is more than plain LoRA", hint="merge it with PEFT first")
    targets = values.get("target_modules") or []
    return LoraConfig(
        rank=int(values.get("r", 8)),
        alpha=float(values.get("lora_alpha", 8)),
        dropout=float(values.get("lora_dropout", 0.0)),
        target_modules=tuple(sorted({str(name).rsplit(".", 1)[-1] for name in targets})),
        rank_stabilised=bool(values.get("use_rslora", False)),
        first_layer=_first_layer(folder, values.get("layers_to_transform")),
    )


def _first_layer(folder: Path, layers: int | list[int] | None) -> int:
    """Return the lowest layer with an adapter.

    Raises: CheckpointError where a layer above it has none.
    """
    named = sorted([layers] if isinstance(layers, int) else layers or [0])
    if layers is not None and named != list(range(named[0], named[0] + len(named))):
        raise CheckpointError(
            f"{folder} has an adapter on layers that do not follow each other",
            hint="merge it with PEFT first",
        )
    return int(named[0])


def adapted_maps(model: Transformer) -> Iterator[tuple[str, nn.Module, str, LoraLinear]]:
    """Yield the path, the parent, the name and the map of everything that has an adapter."""
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoraLinear):
                yield f"{path}.{name}", module, name, child
