"""Write a LoRA adapter (a PEFT folder) as a GGUF adapter file that llama.cpp puts on its base.

An adapter is small, so it is stored in full precision. Its rows follow the base's layout: where
the base's query and key rows are permuted, so are the rows the adapter adds to them.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.errors import ExportError
from triptych.lm.export.gguf import gguf_name, permute_rope_rows, read_config
from triptych.lm.export.weights import Weights

_PREFIX = "base_model.model."
_PARTS = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}


def export_lora(adapter: Path, base: Path, path: Path) -> Path:
    """Write the adapter folder as one GGUF file for the base folder's model.

    Raises: ExportError for an adapter that is more than plain LoRA, or of another model.
    """
    import gguf

    settings = _settings(adapter)
    config = read_config(base)
    weights = Weights(adapter, name="adapter_model")
    rank = int(settings["r"])
    alpha = float(settings.get("lora_alpha") or rank)
    if settings.get("use_rslora"):
        # llama.cpp scales by alpha / rank; rank-stabilised LoRA by alpha / sqrt(rank).
        alpha *= math.sqrt(rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    writer = gguf.GGUFWriter(partial, config["model_type"])
    try:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        writer.add_name(adapter.name)
        for name in weights:
            target, read = _tensor(config, weights, name)
            writer.add_tensor(target, np.ascontiguousarray(read))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.replace(path)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)
    return path


def _settings(adapter: Path) -> dict[str, Any]:
    file = adapter / "adapter_config.json"
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ExportError(
            f"{file} cannot be read as a LoRA configuration",
            hint="an adapter folder has adapter_config.json and adapter_model.safetensors",
        ) from fault
    if settings.get("peft_type", "LORA") != "LORA" or settings.get("use_dora"):
        raise ExportError(f"{adapter} is not plain LoRA", hint="train it without DoRA")
    if settings.get("bias", "none") != "none" or settings.get("modules_to_save"):
        raise ExportError(f"{adapter} changes more than LoRA holds", hint='use bias="none"')
    if settings.get("rank_pattern") or settings.get("alpha_pattern"):
        raise ExportError(f"{adapter} has several ranks", hint="use one rank for every module")
    return settings


def _tensor(config: dict[str, Any], weights: Weights, name: str) -> tuple[str, NDArray[np.float32]]:
    for ending, target_ending in _PARTS.items():
        if name.endswith(ending):
            module = name.removeprefix(_PREFIX).removesuffix(ending)
            target = gguf_name(f"{module}.weight", tied=False)
            tensor = weights.read(name)
            if ending == ".lora_B.weight" and config["model_type"] == "llama":
                heads = config["num_attention_heads"]
                if module.endswith("q_proj"):
                    tensor = permute_rope_rows(tensor, heads)
                if module.endswith("k_proj"):
                    tensor = permute_rope_rows(tensor, config.get("num_key_value_heads") or heads)
            return f"{target}{target_ending}", tensor
    raise ExportError(f"{name!r} is no part of a plain LoRA adapter")
