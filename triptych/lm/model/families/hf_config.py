"""What a family writes in its `config.json` in a way of its own, read and written.

Forms of transformers 4 (`rope_theta`, `rope_scaling`, `rope_local_base_freq`) and 5
(`rope_parameters`, for Gemma 3 one for each kind of layer). Left out: the plain fields
(`ModelConfig`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych.errors import CheckpointError
from triptych.lm.model.families.table import FAMILIES

ROPE_TYPES = ("default", "linear", "llama3", "yarn")
_HINT = "run this model with --engine transformers"
_SLIDING, _FULL = "sliding_attention", "full_attention"


def read_rope(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Read the rotary settings, as fields of `ModelConfig`.

    Raises: CheckpointError for a kind that is not built.
    """
    fields: dict[str, Any] = {}
    parameters = dict(values.get("rope_parameters") or values.get("rope_scaling") or {})
    if _FULL in parameters or _SLIDING in parameters:  # Gemma 3 in the form of transformers 5
        local = parameters.get(_SLIDING) or {}
        if local.get("rope_type", "default") != "default":
            raise CheckpointError(f"{origin} stretches the positions of its windows", hint=_HINT)
        fields["rope_local_base_freq"] = float(local.get("rope_theta") or 10_000.0)
        parameters = dict(parameters.get(_FULL) or {})
    default_theta = FAMILIES[values["model_type"]].default_rope_theta
    theta = parameters.pop("rope_theta", None) or values.get("rope_theta") or default_theta
    fields["rope_theta"] = float(theta)
    legacy_type = parameters.pop("type", None)
    rope_type = parameters.get("rope_type") or legacy_type or "default"
    if rope_type not in ROPE_TYPES:
        raise CheckpointError(
            f"{origin} asks for {rope_type!r} rotary positions; known are {', '.join(ROPE_TYPES)}",
            hint=_HINT,
        )
    partial = parameters.pop("partial_rotary_factor", None) or values.get("partial_rotary_factor")
    if float(partial or 1.0) != 1.0 and values["model_type"] != "phi3":
        raise CheckpointError(f"{origin} rotates a part of each head only", hint=_HINT)
    fields["partial_rotary_factor"] = float(partial or 1.0)
    fields["rope_scaling"] = (
        None if rope_type == "default" else {**parameters, "rope_type": rope_type}
    )
    return fields


def read_layers(values: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Read which layers have a window and which have positions, as fields of `ModelConfig`."""
    model_type = values["model_type"]
    if model_type == "gemma3_text":
        pattern = int(values.get("sliding_window_pattern") or 6)
        kinds = values.get("layer_types") or [
            _SLIDING if (index + 1) % pattern else _FULL for index in range(layers)
        ]
        return {
            "layer_types": tuple(kinds),
            "sliding_window": int(values.get("sliding_window") or 4096),
            "query_pre_attn_scalar": int(values.get("query_pre_attn_scalar") or 256),
        }
    if model_type == "smollm3":
        interval = int(values.get("no_rope_layer_interval") or 4)
        marks = values.get("no_rope_layers") or [
            int((index + 1) % interval != 0) for index in range(layers)
        ]
        return {"no_rope_layers": tuple(marks), "layer_types": (), "sliding_window": None}
    window = values.get("sliding_window") if model_type == "phi3" else None
    return {"layer_types": (), "no_rope_layers": (), "sliding_window": window}


def own_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the family's `config.json` holds beside the plain fields of a `ModelConfig`."""
    model_type, scaling = fields["model_type"], fields["rope_scaling"]
    rope = {"rope_type": "default", **(scaling or {}), "rope_theta": fields["rope_theta"]}
    if model_type in ("qwen3", "qwen2"):
        return {"use_sliding_window": False, "sliding_window": None}
    if model_type == "smollm3":
        return {"use_sliding_window": False, "no_rope_layers": list(fields["no_rope_layers"])}
    if model_type == "phi3":
        return {
            "original_max_position_embeddings": fields["max_position_embeddings"],
            "rope_parameters": rope | {"partial_rotary_factor": fields["partial_rotary_factor"]},
        }
    if model_type == "gemma3_text":
        local = {"rope_type": "default", "rope_theta": fields["rope_local_base_freq"]}
        return {
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": list(fields["layer_types"]),
            "rope_parameters": {_FULL: rope, _SLIDING: local},
        }
    return {}


def refuse_what_is_not_built(values: Mapping[str, Any], origin: str) -> None:
    """Refuse an activation, a kind of attention or weights that are not built here.

    Raises: CheckpointError.
    """
    gemma = FAMILIES[values["model_type"]].gemma
    known = ("gelu_pytorch_tanh",) if gemma else ("silu", "swish")
    activation = values.get("hidden_activation" if gemma else "hidden_act") or known[0]
    if activation not in known:
        raise CheckpointError(f"{origin} uses {activation!r}, not {known[0]}", hint=_HINT)
    layer_types = set(values.get("layer_types") or [_FULL])
    windows = layer_types != {_FULL} or values.get("use_sliding_window")
    if (windows and not gemma) or layer_types - {_FULL, _SLIDING}:
        raise CheckpointError(f"{origin} uses sliding-window attention", hint=_HINT)
    for name in ("final_logit_softcapping", "attn_logit_softcapping"):
        if values.get(name):
            raise CheckpointError(f"{origin} sets {name}", hint=_HINT)
    if values.get("use_bidirectional_attention"):
        raise CheckpointError(f"{origin} attends in both directions", hint=_HINT)
    if values.get("quantization_config"):
        raise CheckpointError(f"{origin} holds quantised weights", hint=_HINT)
