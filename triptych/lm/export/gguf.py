"""Write a model folder of Llama's, Qwen2's or Qwen3's shape as one GGUF file for llama.cpp.

Three things decide whether the file means the same model: the rotary layout (llama.cpp rotates
Llama's query and key pairs interleaved, so their rows are permuted; Qwen3's are taken as they
are), the name of the pre-tokenizer (a wrong one splits text differently without a word), and the
chat template. Left out: running the file, which the engines and `triptych export` do.

Source: the GGUF specification and llama.cpp's reading of it; parity in tests/lm/export.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from triptych.durable import require_free_space
from triptych.errors import ExportError
from triptych.lm.export import kquants
from triptych.lm.export.kquants import more_bits
from triptych.lm.export.weights import Weights
from triptych.lm.model.gguf.names import LAYER_NAMES
from triptych.lm.model.tokenizer import QWEN2_SPLIT_PATTERN, Tokenizer

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from numpy.typing import NDArray

GgufType = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"]
GGUF_TYPES: tuple[GgufType, ...] = get_args(GgufType)

#: Bytes one weight takes; q8_0 stores 32 weights with one 16-bit scale.
WIDTH_BYTES: dict[GgufType, float] = {
    "f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q6_k": 0.83, "q5_k_m": 0.72, "q4_k_m": 0.62,
}  # fmt: skip

LLAMA3_SPLIT_PATTERN = QWEN2_SPLIT_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

ARCHITECTURES = ("llama", "qwen2", "qwen3")

#: Settings with which these architectures mean something a plain GGUF does not hold.
REQUIRED_SETTINGS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "use_sliding_window": (False, None),
}


@dataclass(frozen=True)
class GgufReport:
    """What was written."""

    path: Path
    dtype: GgufType
    architecture: str
    parameters: int
    size_bytes: int


def export_gguf(
    folder: Path, path: Path, *, dtype: GgufType = "bf16", name: str = ""
) -> GgufReport:
    """Write the model in `folder` to one GGUF file, complete or not at all.

    Raises: ExportError when the format cannot hold this model exactly; CheckpointError for a
        damaged folder.
    """
    if dtype not in GGUF_TYPES:
        raise ExportError(f"unknown GGUF type {dtype!r}", hint=f"one of {', '.join(GGUF_TYPES)}")
    config = read_config(folder)
    weights = Weights(folder)
    tokenizer = Tokenizer.load(folder)
    require_free_space(path.parent, int(weights.parameters() * WIDTH_BYTES[dtype] * 1.05) + 2**20)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write(partial, config, weights, tokenizer, dtype, name or folder.name)
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return GgufReport(path, dtype, config["model_type"], weights.parameters(), path.stat().st_size)


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` and refuse what the exported formats would silently get wrong.

    Raises: ExportError naming the setting.
    """
    file = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as fault:
        raise ExportError(
            f"{file} cannot be read as a model configuration",
            hint="give a Hugging Face folder: config.json, model.safetensors, tokenizer.json",
        ) from fault
    if config.get("model_type") not in ARCHITECTURES:
        raise ExportError(
            f"GGUF export knows {', '.join(ARCHITECTURES)}, not {config.get('model_type')!r}",
            hint="other models run through the transformers engine",
        )
    for key, allowed in REQUIRED_SETTINGS.items():
        if config.get(key, allowed[0]) not in allowed:
            raise ExportError(
                f"{key} = {config[key]!r} cannot be exported", hint=f"only {allowed[0]!r} can"
            )
    if (rope_scaling := _rope_type(config)) not in ("", "llama3"):
        raise ExportError(
            f"rope scaling {rope_scaling!r} cannot be exported", hint="plain rope and llama3's can"
        )
    return config


def permute_rope_rows(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Reorder the rows of a query or key projection from half-split to interleaved rotary pairs.

    Hugging Face turns the pairs (i, i + H/2) of a head, llama.cpp's Llama the pairs (2i, 2i + 1).
    Row 2i of a head becomes the old row i, and row 2i + 1 the old row i + H/2: both then turn the
    same two numbers by the same angle, and since queries and keys are reordered alike, their dot
    products stay as they were. Values are not turned and keep their order. llama.cpp turns Qwen3
    in halves as Hugging Face does: reordered, its answers would be wrong without an error.

    Shape: (N*H, C) to (N*H, C), with K for N where the rows are keys.
    """
    rows, width = weight.shape
    half = rows // num_heads // 2
    return weight.reshape(num_heads, 2, half, width).swapaxes(1, 2).reshape(rows, width)


def pre_tokenizer_name(tokenizer_json: dict[str, Any]) -> str:
    """Name the pre-tokenizer as llama.cpp knows it.

    Raises: ExportError when llama.cpp has no equal one, because text would split differently.
    """
    pre = tokenizer_json.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    kinds = [step.get("type") for step in steps]
    if kinds == ["Split", "ByteLevel"] and steps[1].get("use_regex", True) is False:
        pattern = steps[0].get("pattern", {}).get("Regex")
        plain = steps[0].get("behavior") == "Isolated" and not steps[0].get("invert")
        named = {QWEN2_SPLIT_PATTERN: "qwen2", LLAMA3_SPLIT_PATTERN: "llama-bpe"}
        if plain and pattern in named:
            return named[pattern]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    digits = kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits")
    if digits and steps[1].get("use_regex", True):
        return "smollm"
    raise ExportError(
        f"llama.cpp has no pre-tokenizer equal to this tokenizer's ({' + '.join(map(str, kinds))})",
        hint="train the tokenizer with `triptych data build`, which uses Qwen2's split pattern",
    )


def gguf_name(name: str, *, tied: bool) -> str | None:
    """Translate a Hugging Face tensor name; None for one that GGUF leaves out.

    Raises: ExportError for a tensor the architecture does not have.
    """
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": None if tied else "output.weight",
    }
    if name in whole:
        return whole[name]
    parts = name.split(".")
    if parts[:2] == ["model", "layers"] and parts[2].isdigit():
        part = LAYER_NAMES.get(".".join(parts[3:-1]))
        biased = parts[-1] == "bias" and part in ("attn_q", "attn_k", "attn_v")
        if part is not None and (parts[-1] == "weight" or biased):
            return f"blk.{parts[2]}.{part}.{parts[-1]}"
    raise ExportError(
        f"tensor {name!r} has no place in the GGUF architecture",
        hint="the exporter knows plain Llama, Qwen2 and Qwen3 models",
    )


def _rope_type(config: dict[str, Any]) -> str:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    return "" if kind == "default" else str(kind)


def rope_factors(config: dict[str, Any]) -> NDArray[np.float32]:
    """Return by what Llama 3.1 divides the frequency of each rotary pair.

    Shape: (H/2,).
    Source: transformers' `rope_type` llama3; llama.cpp takes the factors as a tensor.
    """
    import numpy as np

    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    factor, low, high = (
        float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor")
    )
    context = float(rope["original_max_position_embeddings"])
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    pairs = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    wavelength = 2 * np.pi * _rope_theta(config) ** pairs
    blend = np.clip((context / wavelength - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1 - blend) / factor + blend)).astype(np.float32)


def _rope_theta(config: dict[str, Any]) -> float:
    rope = config.get("rope_parameters") or {}
    return float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))


def _write(
    path: Path,
    config: dict[str, Any],
    weights: Weights,
    tokenizer: Tokenizer,
    dtype: GgufType,
    name: str,
) -> None:
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, config["model_type"])
    try:
        _add_shape(writer, config, dtype, name)
        _add_tokenizer(writer, config, tokenizer)
        tensors = list(_tensors(config, weights, dtype))
        for target, shape, kind, _ in tensors:
            byte_shape = gguf.quant_shape_to_byte_shape(shape, kind)
            writer.add_tensor_info(
                target, byte_shape, np.dtype(np.uint8), int(np.prod(byte_shape)), raw_dtype=kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, _, kind, read in tensors:
            data = kquants.stored(read(), kind)
            writer.write_tensor_data(np.ascontiguousarray(data).view(np.uint8))
    finally:
        writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any], dtype: GgufType, name: str) -> None:
    import gguf

    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_type("model")
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(_rope_theta(config))
    if config["model_type"] == "llama":
        writer.add_rope_dimension_count(head_dim)
    writer.add_vocab_size(config["vocab_size"])
    kinds = gguf.LlamaFileType
    writer.add_file_type(
        {
            "f32": kinds.ALL_F32,
            "f16": kinds.MOSTLY_F16,
            "bf16": kinds.MOSTLY_BF16,
            "q8_0": kinds.MOSTLY_Q8_0,
            "q6_k": kinds.MOSTLY_Q6_K,
            "q5_k_m": kinds.MOSTLY_Q5_K_M,
            "q4_k_m": kinds.MOSTLY_Q4_K_M,
        }[dtype]
    )
    if dtype.startswith("q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: gguf.GGUFWriter, config: dict[str, Any], tokenizer: Tokenizer) -> None:
    import gguf

    described = json.loads(tokenizer.core.to_str())
    model = described["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ExportError("GGUF export knows byte-level BPE tokenizers only")
    size = config["vocab_size"]
    vocabulary = tokenizer.core.get_vocab(with_added_tokens=True)
    if max(vocabulary.values()) >= size:
        raise ExportError(
            f"the tokenizer has {max(vocabulary.values()) + 1} tokens, the model {size}",
            hint="the tokenizer belongs to another model",
        )
    kinds = gguf.TokenType
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [int(kinds.UNUSED)] * size
    for token, token_id in vocabulary.items():
        tokens[token_id] = token
        types[token_id] = int(kinds.NORMAL)
    for added in described.get("added_tokens", ()):
        kind = kinds.CONTROL if added["special"] else kinds.USER_DEFINED
        tokens[added["id"]] = added["content"]
        types[added["id"]] = int(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(described))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    )
    writer.add_bos_token_id(tokenizer.boundary_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_pad_token_id(tokenizer.boundary_id)
    writer.add_add_bos_token(bool(tokenizer.settings.get("add_bos_token", False)))
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(
    config: dict[str, Any], weights: Weights, dtype: GgufType
) -> Iterator[
    tuple[str, tuple[int, ...], gguf.GGMLQuantizationType, Callable[[], NDArray[np.float32]]]
]:
    """Yield name, shape, stored type and reader of every tensor, which reads when it is called.

    Shape: as in the model folder: maps (out, in), norms (C,).
    """
    import gguf

    kinds = gguf.GGMLQuantizationType
    tied = bool(config.get("tie_word_embeddings"))
    if _rope_type(config) == "llama3":
        factors = rope_factors(config)
        yield "rope_freqs.weight", factors.shape, kinds.F32, lambda: factors
    for name in weights:
        target = gguf_name(name, tied=tied)
        if target is None:
            continue
        shape = weights.shape(name)
        # llama.cpp multiplies by norms and adds biases in float32 only, and they are small.
        kind = kinds.F32 if len(shape) == 1 else stored_type(dtype, target, shape[-1], config)
        yield target, shape, kind, _reader(config, weights, name)


def stored_type(
    dtype: GgufType, target: str, row: int, config: dict[str, Any]
) -> gguf.GGMLQuantizationType:
    """Return how a map is stored: the mix of llama.cpp's own quantiser for the k-quants.

    Blocks lie along a row; a row that is no whole number of them gets the next plainer kind.
    """
    import gguf

    kinds = gguf.GGMLQuantizationType
    plain = {"f32": kinds.F32, "f16": kinds.F16, "bf16": kinds.BF16, "q8_0": kinds.Q8_0,
             "q6_k": kinds.Q6_K, "q5_k_m": kinds.Q5_K, "q4_k_m": kinds.Q4_K}  # fmt: skip
    kind = plain[dtype]
    if dtype in ("q5_k_m", "q4_k_m"):
        head = target == "output.weight" or (
            target == "token_embd.weight" and config.get("tie_word_embeddings")
        )
        part = target.split(".")
        finer = part[0] == "blk" and part[2] in ("attn_v", "ffn_down")
        if head or (finer and more_bits(int(part[1]), config["num_hidden_layers"])):
            kind = kinds.Q6_K
    if row % 256:
        fallbacks = {kinds.Q4_K: kinds.Q5_0, kinds.Q5_K: kinds.Q5_1, kinds.Q6_K: kinds.Q8_0}
        kind = fallbacks.get(kind, kind)
    if row % 32 and kind in (kinds.Q5_0, kinds.Q5_1, kinds.Q8_0):
        kind = kinds.F16
    return kind


def _reader(
    config: dict[str, Any], weights: Weights, name: str
) -> Callable[[], NDArray[np.float32]]:
    """Return what reads one tensor in llama.cpp's order of rows.

    Shape: as stored, (out, in) or (C,).
    """
    heads = config["num_attention_heads"]
    if config["model_type"] == "llama":
        if name.endswith("q_proj.weight"):
            return lambda: permute_rope_rows(weights.read(name), heads)
        if name.endswith("k_proj.weight"):
            kv_heads = config.get("num_key_value_heads") or heads
            return lambda: permute_rope_rows(weights.read(name), kv_heads)
    return lambda: weights.read(name)
