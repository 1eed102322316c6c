"""Our decoder is exactly Qwen3 and exactly Llama: `transformers` is the oracle, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.lm.model.conftest import SHAPE, random_ids, random_model, theirs
from triptych.lm.model.checkpoint import load_model, save_model

TOLERANCE = 1e-4
SCALINGS: dict[str, dict[str, Any] | None] = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64},
}


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_logits_of_our_checkpoint_equal_transformers(
    tmp_path: Path, model_type: str, tied: bool, bias: bool, scaling: str
) -> None:
    model = random_model(
        model_type=model_type,
        tie_word_embeddings=tied,
        attention_bias=bias,
        mlp_bias=bias and model_type == "llama",
        rope_scaling=SCALINGS[scaling],
    )
    save_model(tmp_path / "ours", model)
    ids = random_ids(2, 100)
    with torch.no_grad():
        difference = (theirs(tmp_path / "ours")(ids).logits - model(ids)).abs().max()
    assert difference <= TOLERANCE


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("sharded", [False, True])
def test_logits_of_their_checkpoint_equal_ours(
    tmp_path: Path, model_type: str, scaling: str, sharded: bool
) -> None:
    rope = {**(SCALINGS[scaling] or {"rope_type": "default"}), "rope_theta": 50_000.0}
    shape = {key: value for key, value in SHAPE.items() if key != "rope_theta"}
    config = transformers.AutoConfig.for_model(model_type, **shape, rope_parameters=rope)
    torch.manual_seed(0)
    oracle = transformers.AutoModelForCausalLM.from_config(config).eval()
    size = {"max_shard_size": "60kB"} if sharded else {}
    oracle.save_pretrained(tmp_path, **size)
    assert (tmp_path / "model.safetensors.index.json").exists() == sharded
    ids = random_ids(2, 100)
    with torch.no_grad():
        difference = (oracle(ids).logits - load_model(tmp_path)(ids)).abs().max()
    assert difference <= TOLERANCE
