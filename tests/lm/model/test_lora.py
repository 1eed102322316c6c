"""LoRA: attach, train, save as PEFT saves, merge; PEFT itself is the oracle."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch

from tests.lm.model.conftest import random_ids, random_model, theirs
from triptych.errors import CheckpointError, ConfigError
from triptych.lm.model.checkpoint import load_model, save_model
from triptych.lm.model.lora import (
    LoraConfig,
    attach_lora,
    load_lora,
    lora_tensors,
    merge_lora,
    save_lora,
)
from triptych.lm.model.transformer import Transformer


def adapted_model(model_type: str = "qwen3", **changes: object) -> Transformer:
    """A model with an adapter that has learned something."""
    model = random_model(model_type=model_type)
    attach_lora(model, LoraConfig(**{"rank": 4, "alpha": 8.0, **changes}))
    with torch.no_grad():
        for tensor in lora_tensors(model).values():
            tensor.copy_(torch.randn_like(tensor) * 0.1)
    return model


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
@pytest.mark.parametrize("stabilised", [False, True])
def test_peft_reads_our_adapter_and_gives_our_logits(
    tmp_path: Path, model_type: str, stabilised: bool
) -> None:
    save_model(tmp_path / "base", random_model(model_type=model_type))
    model = adapted_model(model_type, rank_stabilised=stabilised)
    save_lora(tmp_path / "adapter", model, base=str(tmp_path / "base"))
    oracle = peft.PeftModel.from_pretrained(theirs(tmp_path / "base"), tmp_path / "adapter")
    ids = random_ids(2, 50)
    with torch.no_grad():
        assert (oracle(ids).logits - model(ids)).abs().max() <= 1e-4


def test_an_adapter_on_upper_layers_is_the_same_to_peft_and_to_us(tmp_path: Path) -> None:
    save_model(tmp_path / "base", random_model())
    model = adapted_model(first_layer=1)
    assert not any(".layers.0." in name for name in lora_tensors(model))
    save_lora(tmp_path / "adapter", model, base=str(tmp_path / "base"))
    oracle = peft.PeftModel.from_pretrained(theirs(tmp_path / "base"), tmp_path / "adapter")
    again = load_model(tmp_path / "base")
    load_lora(tmp_path / "adapter", again)
    ids = random_ids(2, 50)
    with torch.no_grad():
        assert (oracle(ids).logits - model(ids)).abs().max() <= 1e-4
        assert torch.equal(again(ids), model(ids))


def test_we_read_pefts_adapter(tmp_path: Path) -> None:
    save_model(tmp_path / "base", random_model())
    settings = peft.LoraConfig(
        r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], init_lora_weights=False
    )
    oracle = peft.get_peft_model(theirs(tmp_path / "base"), settings).eval()
    oracle.save_pretrained(tmp_path / "adapter")
    model = load_model(tmp_path / "base")
    load_lora(tmp_path / "adapter", model)
    ids = random_ids(2, 50)
    with torch.no_grad():
        assert (oracle(ids).logits - model.eval()(ids)).abs().max() <= 1e-4


def test_a_new_adapter_changes_nothing_and_only_it_is_trained() -> None:
    model = random_model()
    ids = random_ids(2, 33)
    with torch.no_grad():
        before = model(ids)
    attach_lora(model, LoraConfig(rank=4))
    with torch.no_grad():
        assert torch.equal(model(ids), before)
    frozen = {
        name: weight.clone() for name, weight in model.named_parameters() if "lora" not in name
    }
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert len(trained) == 2 * 7 * 3
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(20):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    for name, weight in model.named_parameters():
        assert "lora" in name or torch.equal(weight, frozen[name])


def test_merging_keeps_the_logits_and_saving_merges(tmp_path: Path) -> None:
    model = adapted_model()
    ids = random_ids(2, 40)
    with torch.no_grad():
        before = model(ids)
        save_model(tmp_path / "merged", model)
        assert (load_model(tmp_path / "merged")(ids) - before).abs().max() <= 1e-5
        merge_lora(model)
        assert (model(ids) - before).abs().max() <= 1e-5
    assert not lora_tensors(model)
    assert all(weight.requires_grad for weight in model.parameters())


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    save_lora(tmp_path / "adapter", adapted_model(), base="somewhere")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_lora(tmp_path / "adapter", random_model(hidden_size=32))
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_dora": True}))
    with pytest.raises(CheckpointError, match="more than plain LoRA"):
        load_lora(tmp_path / "adapter", random_model())
    (tmp_path / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_lora(tmp_path / "adapter", random_model())


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="rank 0"):
        LoraConfig(rank=0)
    with pytest.raises(ConfigError, match="z_proj"):
        LoraConfig(target_modules=("q_proj", "z_proj"))
    with pytest.raises(CheckpointError, match="no LoRA adapter"):
        save_lora(Path("nowhere"), random_model(), base="")


def test_an_adapter_stands_beside_the_fused_maps_of_phi3() -> None:
    model = random_model(model_type="phi3", head_dim=16)
    attach_lora(model, LoraConfig(rank=2))
    names = {name.split(".")[-3] for name in lora_tensors(model)}
    assert names == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
