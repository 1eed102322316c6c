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
from typing import Any, Self

from triptych.errors import CheckpointError, ConfigError
from triptych.lm.model.families.hf_config import (
    ROPE_TYPES,
    own_values,
    read_layers,
    read_rope,
    refuse_what_is_not_built,
)  # fmt: skip
from triptych.lm.model.families.table import FAMILIES, FAMILY_FIELDS, NAMES, Family, ModelType


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Describe one decoder; every name is the one of `config.json`.

    `model_type` `qwen3` normalises queries and keys per head, `llama` does not; what else differs
    stands in `families`. `rope_scaling` holds the keys beside `rope_theta` of one of `ROPE_TYPES`,
    or nothing. `layer_types` and `no_rope_layers` (1: the layer has rotary positions) have an entry
    for each layer, or are empty where all layers are alike.
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
    sliding_window: int | None = None
    layer_types: tuple[str, ...] = ()
    no_rope_layers: tuple[int, ...] = ()
    rope_local_base_freq: float = 10_000.0
    partial_rotary_factor: float = 1.0
    query_pre_attn_scalar: int | None = None
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
    def family(self) -> Family:
        """Return what this family has that no field says."""
        return FAMILIES[self.model_type]

    @property
    def qk_norm(self) -> bool:
        """Return whether queries and keys are normalised per head."""
        return self.family.qk_norm

    @property
    def rotary_dim(self) -> int:
        """Count the leading entries of a head that are turned by their position."""
        return int(self.head_dim * self.partial_rotary_factor)

    def window_of(self, layer: int) -> int | None:
        """Return how many positions a layer sees, itself included; None: all before it."""
        if self.layer_types and self.layer_types[layer] != "sliding_attention":
            return None
        return self.sliding_window

    def rotates(self, layer: int) -> bool:
        """Return whether a layer has rotary positions."""
        return not self.no_rope_layers or bool(self.no_rope_layers[layer])

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
        attention += (queries + 2 * keys) * self.family.qkv_bias
        mlp = 3 * width * self.intermediate_size
        mlp += (2 * self.intermediate_size + width) * self.mlp_bias
        layer = attention + mlp + (4 if self.family.gemma else 2) * width + 2 * head * self.qk_norm
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
        model_type = str(values.get("model_type"))
        if model_type not in FAMILIES:
            raise CheckpointError(
                f"{origin} describes a {model_type!r} model",
                hint=f"this decoder is {NAMES}; other models run with --engine transformers",
            )
        refuse_what_is_not_built(values, origin)
        names = {field.name for field in dataclasses.fields(cls)}
        known = {key: value for key, value in values.items() if key in names and value is not None}
        heads = known.get("num_attention_heads", 32)
        known.setdefault("num_key_value_heads", heads)
        # Two families have a width of their own; the others share the model's among the heads.
        own_head_dim = {"qwen3": 128, "gemma3_text": 256}.get(model_type)
        known.setdefault("head_dim", own_head_dim or known.get("hidden_size", 0) // heads)
        known.setdefault("tie_word_embeddings", FAMILIES[model_type].default_tied)
        known.update(read_layers(values, known.get("num_hidden_layers", 0)))
        known.update(read_rope(values, origin))
        for name in ("eos_token_id", "layer_types", "no_rope_layers"):
            if isinstance(known.get(name), list):
                known[name] = tuple(known[name])
        try:
            return cls(**known)
        except (ConfigError, TypeError) as error:
            raise CheckpointError(f"{origin}: {error}") from error

    def to_hf_dict(self, dtype: str = "float32") -> dict[str, Any]:
        """Return the contents of `config.json`, read by transformers 4 and 5, vLLM, llama.cpp."""
        values = dataclasses.asdict(self)
        scaling = dict(self.rope_scaling) if self.rope_scaling else None
        values.update(
            architectures=[self.family.architecture],
            hidden_act="gelu_pytorch_tanh" if self.family.gemma else "silu",
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
        for name in FAMILY_FIELDS.difference(self.family.own_fields):
            del values[name]
        return values | own_values(dataclasses.asdict(self))


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
    if config.model_type not in FAMILIES:
        return [*problems, f"model_type is {config.model_type!r}, it must be one of {NAMES}"]
    for name in ("layer_types", "no_rope_layers"):
        listed = len(getattr(config, name))
        if listed not in (0, config.num_hidden_layers):
            problems.append(f"{name} has {listed} entries for {config.num_hidden_layers} layers")
    if config.num_key_value_heads > 0 and config.num_attention_heads % config.num_key_value_heads:
        problems.append(
            f"num_attention_heads {config.num_attention_heads} cannot be shared by "
            f"num_key_value_heads {config.num_key_value_heads}"
        )
    if config.head_dim % 2 or config.rotary_dim % 2:
        problems.append(f"head_dim is {config.head_dim}, rotary positions need an even number")
    if config.rope_type not in ROPE_TYPES:
        problems.append(f"rope_type is {config.rope_type!r}, known are {', '.join(ROPE_TYPES)}")
    return problems
