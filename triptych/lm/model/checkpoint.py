"""The checkpoint folder: a Hugging Face folder that `transformers`, vLLM and llama.cpp read as is.

Written whole with a manifest of hashes, verified when read. Reads one or several safetensors
files, or the GGUF that a folder was made for. Left out: trainer state (`lm.train`), other formats
(`lm.export`), where folders come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from triptych.durable import atomic_folder, write_atomic
from triptych.errors import CheckpointError
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.gguf.weights import read_gguf_weights
from triptych.lm.model.lora import LoraLinear
from triptych.lm.model.manifest import verify_manifest, write_manifest
from triptych.lm.model.tensors import save_tensors
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
GGUF = "model.gguf"


def save_model(folder: Path, model: Transformer, tokenizer: Tokenizer | None = None) -> None:
    """Write a checkpoint folder; a folder that does not exist yet appears whole or not at all.

    An existing folder is written into, for a caller that makes its own folder atomic.

    Raises: StorageError when the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    if not folder.exists():
        with atomic_folder(folder) as temporary:
            save_model(temporary, model, tokenizer)
        return
    dtype = str(model.lm_head.weight.dtype).removeprefix("torch.")
    config = _json(model.config.to_hf_dict(dtype))
    write_atomic(folder / "config.json", config)
    write_atomic(folder / "generation_config.json", _json(_generation_config(model.config)))
    save_tensors(plain_tensors(model), folder / WEIGHTS)
    if tokenizer is not None:
        tokenizer.save(folder)
    write_manifest(folder)


def plain_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return the tensors of a plain checkpoint: tied weights once, LoRA adapters merged in.

    Shape: by Hugging Face name, each as its weight is stored: maps (out, in), norms (C,).
    """
    tensors = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith((".lora_A", ".lora_B"))
    }
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            tensors[f"{name}.weight"] = module.effective_weight().detach()
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    return tensors


def load_model(
    folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu", verify: bool = True
) -> Transformer:
    """Load a checkpoint folder, ours or any of a known family, and verify it.

    Parameters keep their stored precision unless `dtype` names one; products run in the same.

    Raises: CheckpointError where the folder is missing, torn, or does not hold this model.
    """
    folder = Path(folder)
    config = ModelConfig.from_folder(folder)
    if verify:
        verify_manifest(folder)
    tensors = {
        name: tensor.to(device=device, dtype=dtype or tensor.dtype)
        for name, tensor in read_weights(folder)
    }
    with torch.device("meta"):
        model = Transformer(config)
    if config.tie_word_embeddings and "model.embed_tokens.weight" in tensors:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    _check_tensors(folder, model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.compute_dtype = model.lm_head.weight.dtype
    return model.eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a checkpoint folder and check that the model has a row for each token.

    Raises: DataError where there is none, CheckpointError where it does not fit the model.
    """
    tokenizer = Tokenizer.load(folder)
    if (Path(folder) / "config.json").exists():
        rows = ModelConfig.from_folder(folder).vocab_size
        if tokenizer.vocab_size > rows:
            raise CheckpointError(
                f"the tokenizer of {folder} has {tokenizer.vocab_size} tokens, the model {rows}",
                hint="the checkpoint and the tokenizer come from different models",
            )
    return tokenizer


def read_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a checkpoint folder: one safetensors file, shards, or a GGUF.

    Shape: as stored: maps (out, in), norms (C,).
    Raises: CheckpointError where a file is missing or torn.
    """
    folder = Path(folder)
    if (folder / GGUF).is_file() and not (folder / WEIGHTS).is_file():
        yield from read_gguf_weights(folder / GGUF)
        return
    for file in _weight_files(folder):
        try:
            with safe_open(str(file), framework="pt") as reader:
                for name in reader.keys():  # noqa: SIM118
                    if not name.endswith("rotary_emb.inv_freq"):
                        yield name, reader.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file} is torn or no safetensors file: {error}",
                hint="copy or pull the checkpoint again",
                code="torn",
            ) from error


def _weight_files(folder: Path) -> list[Path]:
    index = folder / WEIGHTS_INDEX
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index} is torn", code="torn") from error
        return [folder / name for name in sorted(names)]
    raise CheckpointError(
        f"{folder} has no {WEIGHTS}",
        hint="only safetensors are read; convert pickled weights with transformers first",
    )


def _check_tensors(folder: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse weights whose names or shapes are not those of the model.

    Shape: `wanted` are the model's own, on the meta device; `found` must have the same.
    """
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not part of this model" for name in found if name not in wanted]
    problems += [
        f"{name} is {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError(
            f"the weights of {folder} do not fit its config.json: "
            + "; ".join(problems[:4])
            + more,
            hint="config.json and the weights come from different models",
        )


def _generation_config(config: ModelConfig) -> dict[str, Any]:
    shown = config.to_hf_dict()
    return {
        key: shown[key]
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        if shown[key] is not None
    }


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
