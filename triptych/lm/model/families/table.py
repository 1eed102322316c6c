"""What differs between the families of decoders that are built here, one row each.

A family is a `model_type` of Hugging Face. Sizes and per-layer choices stand in `ModelConfig`; here
is what no field of `config.json` says. Left out: the layers themselves (`transformer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ModelType = Literal["qwen3", "llama", "qwen2", "smollm3", "phi3", "gemma3_text"]


@dataclass(frozen=True)
class Family:
    """Describe one family.

    `qkv_bias`: queries, keys and values have a bias whatever `attention_bias` says, the output map
    has none. `fused`: q, k, v lie in one matrix and so do gate and up. `gemma`: norms are stored as
    their difference from one and stand after each part too, embeddings are multiplied by the root
    of their width, and the activation is GELU (tanh form).
    """

    architecture: str
    qk_norm: bool = False
    qkv_bias: bool = False
    fused: bool = False
    gemma: bool = False
    default_rope_theta: float = 10_000.0
    default_tied: bool = False
    own_fields: tuple[str, ...] = ()
    """Fields of `config.json` that only this family writes."""


FAMILIES: Mapping[str, Family] = {
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, own_fields=("attention_bias",)),
    "llama": Family("LlamaForCausalLM", own_fields=("attention_bias", "mlp_bias")),
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True),
    "smollm3": Family(
        "SmolLM3ForCausalLM",
        default_rope_theta=2_000_000.0,
        default_tied=True,
        own_fields=("attention_bias", "mlp_bias", "no_rope_layers"),
    ),
    "phi3": Family(
        "Phi3ForCausalLM", fused=True, own_fields=("partial_rotary_factor", "sliding_window")
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        qk_norm=True,
        gemma=True,
        default_rope_theta=1_000_000.0,
        default_tied=True,
        own_fields=(
            "attention_bias", "sliding_window", "layer_types", "rope_local_base_freq",
            "query_pre_attn_scalar",
        ),
    ),
}  # fmt: skip
#: Fields that only some families have.
FAMILY_FIELDS = frozenset(name for family in FAMILIES.values() for name in family.own_fields)
NAMES = ", ".join(FAMILIES)
