"""The shape of a model, in the words of a Hugging Face `config.json`, and the dial of sizes.

Reads and writes `config.json` in the forms of transformers 4 (`rope_theta`, `rope_scaling`) and 5
(`rope_parameters`). Left out: anything about training; no torch here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from triptych.errors import CheckpointError, ConfigError

ModelType = Literal["qwen3", "llama"]
ARCHITECTURES: Mapping[str, str] = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Describe one decoder; every name is the one of `config.json`.

    `model_type` `qwen3` normalises queries and keys per head, `llama` does not; nothing else
    differs. `rope_scaling` holds the keys beside `rope_theta` of one of `ROPE_TYPES`, or nothing.
    Raises: ConfigError where the shape is impossible.
    """

    model_type: ModelType = "qwen3"
    vocab_size: int = 32_000
    hidden_size: int = 512
    intermediate_size: int = 1408
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    num_key_value_heads: int = 8
    head_dim: int = 64
    max_position_embeddings: int = 1024
    rope_theta: float = 10_000.0
    rope_scaling: Mapping[str, Any] | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        problems = list(_shape_problems(self))
        if problems:
            raise ConfigError(
                "impossible model shape: " + "; ".join(problems),
                hint="the named sizes are " + ", ".join(SIZES),
            )

    @property
    def qk_norm(self) -> bool:
        """Return whether queries and keys are normalised per head."""
        return self.model_type == "qwen3"

    @property
    def rope_type(self) -> str:
        """Name how positions are stretched."""
        return str((self.rope_scaling or {}).get("rope_type", "default"))

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """List every token that ends a text."""
        if self.eos_token_id is None:
            return ()
        return self.eos_token_id if isinstance(self.eos_token_id, tuple) else (self.eos_token_id,)

    @property
    def num_parameters(self) -> int:
        """Count the parameters; tied embeddings count once."""
        width, head = self.hidden_size, self.head_dim
        queries, keys = self.num_attention_heads * head, self.num_key_value_heads * head
        attention = width * (queries + 2 * keys) + queries * width
        attention += (queries + 2 * keys + width) * self.attention_bias
        mlp = 3 * width * self.intermediate_size
        mlp += (2 * self.intermediate_size + width) * self.mlp_bias
        layer = attention + mlp + 2 * width + 2 * head * self.qk_norm
        tables = self.vocab_size * width * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * layer + tables + width

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> Self:
        """Return the shape of a named size, with any field changed.

        Raises: ConfigError for a name that is not on the dial.
        """
        if size not in SIZES:
            raise ConfigError(f"no model size {size!r}", hint="choose one of " + ", ".join(SIZES))
        layers, heads, width, intermediate, context, vocabulary = SIZES[size]
        shape: dict[str, Any] = {
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "hidden_size": width,
            "head_dim": width // heads,
            "intermediate_size": intermediate,
            "max_position_embeddings": context,
            "vocab_size": vocabulary,
        }
        return cls(**{**shape, **changes})

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read `config.json` of a checkpoint folder.

        Raises: CheckpointError where the file is missing, torn, or describes another kind of model.
        """
        file = Path(folder) / "config.json"
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CheckpointError(
                f"{folder} is no checkpoint folder: it has no config.json",
                hint="give a folder with config.json and model.safetensors, or `triptych pull` one",
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file} is not valid JSON: {error}") from error
        return cls.from_hf_dict(values, origin=str(file))

    @classmethod
    def from_hf_dict(cls, values: Mapping[str, Any], origin: str = "config.json") -> Self:
        """Read the contents of a `config.json`.

        Raises: CheckpointError where it describes a model this decoder is not.
        """
        model_type = values.get("model_type")
        if model_type not in ARCHITECTURES:
            raise CheckpointError(
                f"{origin} describes a {model_type!r} model",
                hint="this decoder is Qwen3 and Llama; other models run with --engine transformers",
            )
        _refuse_what_is_not_built(values, origin)
        names = {field.name for field in dataclasses.fields(cls)}
        known = {key: value for key, value in values.items() if key in names and value is not None}
        heads = known.get("num_attention_heads", 32)
        known.setdefault("num_key_value_heads", heads)
        # Qwen3's own default is 128 whatever the width; Llama's is the width shared by the heads.
        known.setdefault(
            "head_dim", 128 if model_type == "qwen3" else known.get("hidden_size", 0) // heads
        )
        known.setdefault("tie_word_embeddings", False)
        known["rope_theta"], known["rope_scaling"] = _read_rope(values, origin)
        if isinstance(known.get("eos_token_id"), list):
            known["eos_token_id"] = tuple(known["eos_token_id"])
        try:
            return cls(**known)
        except (ConfigError, TypeError) as error:
            raise CheckpointError(f"{origin}: {error}") from error

    def to_hf_dict(self, dtype: str = "float32") -> dict[str, Any]:
        """Return the contents of `config.json`, read by transformers 4 and 5, vLLM, llama.cpp."""
        values = dataclasses.asdict(self)
        scaling = dict(self.rope_scaling) if self.rope_scaling else None
        values.update(
            architectures=[ARCHITECTURES[self.model_type]],
            hidden_act="silu",
            attention_dropout=0.0,
            use_cache=True,
            dtype=dtype,
            torch_dtype=dtype,
            eos_token_id=list(self.eos_token_id)
            if isinstance(self.eos_token_id, tuple)
            else self.eos_token_id,
            rope_scaling=scaling,
            rope_parameters={
                "rope_type": "default",
                **(scaling or {}),
                "rope_theta": self.rope_theta,
            },
        )
        if self.model_type == "qwen3":
            del values["mlp_bias"]
            values.update(use_sliding_window=False, sliding_window=None)
        return values


# name -> layers, heads, hidden size, intermediate size, context, vocabulary
SIZES: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "nano": (3, 4, 128, 384, 256, 4096),
    "micro": (4, 4, 192, 512, 512, 8192),
    "tiny": (6, 6, 384, 1024, 512, 16_384),
    "small": (6, 8, 512, 1408, 1024, 32_000),
    "medium": (12, 12, 768, 2048, 2048, 32_000),
    "large": (24, 16, 1024, 2816, 2048, 32_000),
}


def _shape_problems(config: ModelConfig) -> list[str]:
    problems = []
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
    ):
        if getattr(config, name) < 1:
            problems.append(f"{name} is {getattr(config, name)}, it must be at least 1")
    if config.model_type not in ARCHITECTURES:
        problems.append(f"model_type is {config.model_type!r}, it must be qwen3 or llama")
    if config.num_key_value_heads > 0 and config.num_attention_heads % config.num_key_value_heads:
        problems.append(
            f"num_attention_heads {config.num_attention_heads} cannot be shared by "
            f"num_key_value_heads {config.num_key_value_heads}"
        )
    if config.head_dim % 2:
        problems.append(f"head_dim is {config.head_dim}, rotary positions need an even number")
    if config.rope_type not in ROPE_TYPES:
        problems.append(f"rope_type is {config.rope_type!r}, known are {', '.join(ROPE_TYPES)}")
    return problems


def _read_rope(values: Mapping[str, Any], origin: str) -> tuple[float, dict[str, Any] | None]:
    """Read the rotary settings of transformers 5 (`rope_parameters`) or 4 (`rope_theta`)."""
    parameters = dict(values.get("rope_parameters") or values.get("rope_scaling") or {})
    theta = parameters.pop("rope_theta", None) or values.get("rope_theta") or 10_000.0
    legacy_type = parameters.pop("type", None)
    rope_type = parameters.get("rope_type") or legacy_type or "default"
    if rope_type not in ROPE_TYPES:
        raise CheckpointError(
            f"{origin} asks for {rope_type!r} rotary positions; known are {', '.join(ROPE_TYPES)}",
            hint="run this model with --engine transformers",
        )
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            f"{origin} rotates a part of each head only", hint="use --engine transformers"
        )
    if rope_type == "default":
        return float(theta), None
    return float(theta), {**parameters, "rope_type": rope_type}


def _refuse_what_is_not_built(values: Mapping[str, Any], origin: str) -> None:
    hint = "run this model with --engine transformers"
    if values.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CheckpointError(f"{origin} uses {values['hidden_act']!r}, not silu", hint=hint)
    layer_types = set(values.get("layer_types") or ["full_attention"])
    if layer_types != {"full_attention"} or values.get("use_sliding_window"):
        raise CheckpointError(f"{origin} uses sliding-window attention", hint=hint)
    if values.get("quantization_config"):
        raise CheckpointError(f"{origin} holds quantised weights", hint=hint)
