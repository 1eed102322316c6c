"""Our decoder is exactly Qwen3 and exactly Llama: `transformers` is the oracle, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.lm.model.conftest import SHAPE, random_ids, random_model, theirs
from triptych.lm.generate.packed.decoder import AnswerCache, PackedDecoder
from triptych.lm.model.checkpoint import load_model, save_model
from triptych.lm.model.transformer import KVCache

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


FAMILY_SHAPES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "smollm3": {"num_hidden_layers": 5, "tie_word_embeddings": True, "pad_token_id": None},
    "phi3": {"partial_rotary_factor": 0.75, "pad_token_id": None},
    "phi3 windows": {"sliding_window": 16, "pad_token_id": None},
    "gemma3_text": {
        "num_hidden_layers": 4, "sliding_window": 24, "query_pre_attn_scalar": 48,
        "sliding_window_pattern": 2,
    },
}  # fmt: skip


def family_oracle(name: str) -> Any:
    """A model of another family as transformers draws it, every weight random."""
    shape = {key: value for key, value in SHAPE.items() if key != "rope_theta"}
    if name in ("qwen2", "smollm3", "phi3", "phi3 windows"):
        shape["head_dim"] = shape["hidden_size"] // shape["num_attention_heads"]
    shape |= FAMILY_SHAPES[name]
    if name != "gemma3_text":
        partial = shape.pop("partial_rotary_factor", None)
        rope = {"rope_type": "default", "rope_theta": 50_000.0}
        shape["rope_parameters"] = rope | ({"partial_rotary_factor": partial} if partial else {})
    config = transformers.AutoConfig.for_model(name.split()[0], **shape)
    torch.manual_seed(0)
    oracle = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in oracle.parameters():
            weight.copy_(torch.randn_like(weight) * 0.08 + (weight.dim() == 1))
    return oracle.eval()


@pytest.mark.parametrize("name", FAMILY_SHAPES)
def test_other_families_agree_with_transformers_both_ways(tmp_path: Path, name: str) -> None:
    oracle = family_oracle(name)
    oracle.save_pretrained(tmp_path / "theirs")
    model = load_model(tmp_path / "theirs")
    save_model(tmp_path / "ours", model)
    ids = random_ids(2, 100)
    with torch.no_grad():
        wanted = oracle(ids).logits
        assert (wanted - model(ids)).abs().max() <= TOLERANCE
        assert (theirs(tmp_path / "ours")(ids).logits - wanted).abs().max() <= TOLERANCE
    counted = sum(weight.numel() for weight in model.parameters())
    assert model.config.num_parameters == counted


@pytest.mark.parametrize("name", FAMILY_SHAPES)
def test_other_families_read_position_by_position_as_at_once(tmp_path: Path, name: str) -> None:
    family_oracle(name).save_pretrained(tmp_path)
    model, ids = load_model(tmp_path), random_ids(1, 60)
    cache = KVCache(model.config, 1, 60, torch.float32)
    with torch.no_grad():
        steps = [model(ids[:, :20], cache)]
        steps += [model(ids[:, at : at + 1], cache) for at in range(20, 60)]
        assert (torch.cat(steps, 1) - model(ids)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("name", FAMILY_SHAPES)
def test_gradients_of_other_families_equal_those_of_transformers(tmp_path: Path, name: str) -> None:
    oracle = family_oracle(name)
    oracle.save_pretrained(tmp_path)
    model, ids = load_model(tmp_path), random_ids(2, 40)
    oracle(ids, labels=ids).loss.backward()
    targets = torch.cat((ids[:, 1:], torch.full((2, 1), -100)), 1)
    model.loss(ids, targets).backward()
    wanted = {key: weight.grad for key, weight in oracle.named_parameters()}
    for key, weight in model.named_parameters():
        assert weight.grad is not None
        assert torch.allclose(weight.grad, wanted[key], atol=2e-5), key


@pytest.mark.parametrize("name", FAMILY_SHAPES)
def test_the_decoder_for_generation_gives_the_same_logits_for_other_families(
    tmp_path: Path, name: str
) -> None:
    family_oracle(name).save_pretrained(tmp_path)
    model, ids = load_model(tmp_path), random_ids(1, 60)
    packed = PackedDecoder(model, torch.float32)
    cache = AnswerCache(packed, 64)
    with torch.no_grad():
        wanted = model(ids)[0]
        read = [packed.logits(packed.prefill(ids[0, :20].tolist(), cache))]
        read.append(packed.logits(packed.prefill(ids[0, 20:30].tolist(), cache)))
        read += [packed.step([int(token)], [cache]) for token in ids[0, 30:]]
        assert (torch.cat(read) - wanted).abs().max() <= TOLERANCE
