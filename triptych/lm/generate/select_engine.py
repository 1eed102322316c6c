"""Choose the engine that runs a model, open it, and say why it was chosen.

`auto` takes llama.cpp on a CPU for the shapes whose GGUF is exact (Llama, Qwen3), the torch engine
on a GPU and for the other families that are built here, and transformers for any other model. A
forced choice is kept or refused, never replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from triptych.config import environment
from triptych.config.generate import GenerateConfig
from triptych.errors import CheckpointError, ExportError, GenerationError, TriptychError
from triptych.lm.export.gguf import WIDTH_BYTES, GgufType, pre_tokenizer_name, read_config
from triptych.lm.export.gguf_folder import MODEL, read_record
from triptych.lm.export.weights import Weights
from triptych.lm.generate.adapters.movement import check_movement
from triptych.lm.generate.engine import Engine
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.manifest import verify_manifest

EngineName = Literal["torch", "llama_cpp", "transformers", "openai"]

#: f16 holds bfloat16 weights exactly in the range weights have, and llama.cpp runs it faster.
GGUF_TYPE: Mapping[str, GgufType] = {
    "auto": "f16",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "q8_0": "q8_0",
    "q6_k": "q6_k",
    "q5_k_m": "q5_k_m",
    "q4_k_m": "q4_k_m",
}


class SelectedEngine(NamedTuple):
    """An engine and the reason for it, in words."""

    engine: EngineName
    reason: str


def select_engine(folder: Path, config: GenerateConfig) -> SelectedEngine:
    """Name the engine for a model folder.

    Raises: CheckpointError where the folder holds no model.
    """
    if read_record(folder) is not None:
        if config.engine not in ("auto", "llama_cpp"):
            raise GenerationError(
                f"the {config.engine} engine runs no GGUF file", hint="use --engine llama_cpp"
            )
        return SelectedEngine("llama_cpp", "the model is a GGUF file")
    if config.engine != "auto":
        return SelectedEngine(config.engine, "as asked for")
    model_type = _model_type(folder)
    try:
        ModelConfig.from_folder(folder)
    except CheckpointError:
        return SelectedEngine("transformers", f"{model_type} models run through transformers")
    if config.device.startswith("cuda") or (config.device == "auto" and _has_gpu()):
        return SelectedEngine("torch", "a GPU is present")
    try:
        read_config(folder)
        pre_tokenizer_name(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
    except (ExportError, OSError, ValueError) as fault:
        return SelectedEngine(
            "torch", f"llama.cpp cannot run it exactly: {str(fault).splitlines()[0]}"
        )
    return SelectedEngine("llama_cpp", "the fastest on a CPU")


def open_engine(
    folder: Path,
    config: GenerateConfig,
    *,
    model: str = "",
    revision: str = "",
    adapters: Mapping[str, Path] | None = None,
    kv_cache_bytes: int = 32 * 2**20,
    prompt_cache_bytes: int = 256 * 2**20,
) -> Engine:
    """Open a model folder with the engine that `select_engine` names.

    Raises: CheckpointError, ExportError, GenerationError where it cannot run; CheckpointError (code
    `movement`) where an adapter does not change the model as it did when it was trained.
    """
    chosen = select_engine(folder, config).engine
    name, adapters = model or folder.name, adapters or {}
    for place in adapters.values():
        verify_manifest(place)
    if chosen == "openai":
        return _open_remote(config, name)
    if chosen == "llama_cpp":
        engine = _open_llama_cpp(
            folder, config, name, revision, adapters, kv_cache_bytes, prompt_cache_bytes
        )
    else:
        if config.dtype.startswith("q") or (adapters and chosen == "transformers"):
            missing = f"{config.dtype} weights" if config.dtype.startswith("q") else "adapters"
            raise GenerationError(
                f"the {chosen} engine has no {missing}",
                hint="use --engine llama_cpp",
                code="unsupported",
            )
        engine = _open_on_torch(
            chosen, folder, config, name, revision, adapters, prompt_cache_bytes
        )
    try:
        for adapter, place in adapters.items():
            check_movement(engine, adapter, place)
    except TriptychError:
        engine.close()
        raise
    return engine


def _open_llama_cpp(
    folder: Path,
    config: GenerateConfig,
    name: str,
    revision: str,
    adapters: Mapping[str, Path],
    kv_cache_bytes: int,
    prompt_cache_bytes: int,
) -> Engine:
    from triptych.lm.generate.gguf_cache import cached_gguf, cached_lora
    from triptych.lm.generate.llama_cpp import LlamaCppEngine, LlamaCppOptions

    dtype = GGUF_TYPE[config.dtype]
    options = LlamaCppOptions(
        dtype=dtype,
        threads=config.threads,
        max_batch=config.max_batch,
        kv_cache_bytes=kv_cache_bytes,
        prompt_cache_bytes=prompt_cache_bytes,
        adapters={adapter: cached_lora(place, folder) for adapter, place in adapters.items()},
    )
    gguf = _given(folder) or cached_gguf(folder, dtype, name=name)
    return LlamaCppEngine(folder, gguf, options, model=name, revision=revision)


def _open_remote(config: GenerateConfig, model: str) -> Engine:
    from triptych.lm.generate.openai import OpenAIEngine

    if not config.base_url:
        raise GenerationError(
            "the openai engine needs an address",
            hint="--set generate.base_url=http://127.0.0.1:8000/v1",
            code="address",
        )
    key = environment.secret("TRIPTYCH_ENGINE_API_KEY")
    return OpenAIEngine(config.base_url, model, api_key=key)


def _open_on_torch(
    engine: EngineName,
    folder: Path,
    config: GenerateConfig,
    name: str,
    revision: str,
    adapters: Mapping[str, Path],
    prompt_cache_bytes: int,
) -> Engine:
    # Imported here: torch takes seconds to load, and llama.cpp does without.
    if engine == "transformers":
        from triptych.lm.generate.transformers_engine import TransformersEngine

        return TransformersEngine(
            folder, dtype=config.dtype, device=config.device, name=name, revision=revision
        )
    from triptych.lm.generate.torch_engine import TorchEngine

    return TorchEngine.load(
        folder,
        dtype=config.dtype,
        device=config.device,
        max_batch=config.max_batch,
        prompt_cache_bytes=prompt_cache_bytes,
        name=name,
        revision=revision,
        adapters=adapters,
    )


def _given(folder: Path) -> Path | None:
    """Return the GGUF file that the folder was made for, where it was."""
    return folder / MODEL if read_record(folder) is not None else None


def weights_bytes(folder: Path, config: GenerateConfig) -> int:
    """Estimate the memory a model's weights will take."""
    if read_record(folder) is not None:
        return (folder / MODEL).stat().st_size
    width = WIDTH_BYTES[GGUF_TYPE[config.dtype]]
    return int(Weights(folder).parameters() * width)


def _model_type(folder: Path) -> str:
    file = folder / "config.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError) as fault:
        raise CheckpointError(
            f"{folder} holds no model", hint="a model folder has a config.json with a model_type"
        ) from fault


def _has_gpu() -> bool:
    return Path("/dev/nvidia0").exists()
