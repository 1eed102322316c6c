"""The checkpoint folder: written whole, verified when read, refused with words when it is wrong."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.lm.model.conftest import SHAPE, random_ids, random_model
from triptych.errors import CheckpointError, StorageError
from triptych.lm.model.checkpoint import (
    load_model,
    load_tokenizer,
    save_model,
)
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.manifest import verify_manifest, write_manifest
from triptych.lm.model.tokenizer import Tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer.train(iter(["the quick brown fox"] * 5), vocab_size=270)
    save_model(tmp_path / "saved", random_model(vocab_size=300, eos_token_id=(2, 0)), tokenizer)
    return tmp_path / "saved"


def test_a_model_comes_back_bit_for_bit(folder: Path) -> None:
    model = random_model(vocab_size=300, eos_token_id=(2, 0))
    loaded = load_model(folder)
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert all(weight.requires_grad for weight in loaded.parameters())


def test_saving_the_same_model_twice_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", load_model(folder), load_tokenizer(folder))
    for name in ("model.safetensors", "config.json", "generation_config.json", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_the_folder_holds_what_the_ecosystem_reads(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10_000.0
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": [2, 0]}
    assert "chat_template" in json.loads((folder / "tokenizer_config.json").read_text())
    assert verify_manifest(folder)


def test_a_precision_can_be_chosen_when_loading(folder: Path) -> None:
    model = load_model(folder, dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model(random_ids(1, 5)).dtype == torch.bfloat16


def test_one_flipped_bit_is_found(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.safetensors differ") as torn:
        load_model(folder)
    assert torn.value.code == "torn"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_cut_or_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError):
        load_model(folder)


def test_a_torn_file_without_a_manifest_is_named(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert not verify_manifest(folder)
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(CheckpointError, match="torn"):
        load_model(folder)


def test_weights_that_do_not_fit_the_config_are_listed(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    tensors["model.extra.weight"] = torch.zeros(1)
    tensors["model.embed_tokens.weight"] = torch.zeros(7, 64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_manifest(folder)
    with pytest.raises(CheckpointError) as misfit:
        load_model(folder)
    for words in ("norm.weight is missing", "extra.weight is not part", "(7, 64) instead of"):
        assert words in misfit.value.message


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    Tokenizer.train(iter(["a b c" * 99, "the quick"] * 5), vocab_size=270).save(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(CheckpointError, match="tokens, the model 100"):
        load_tokenizer(folder)


def test_a_folder_without_weights_says_what_is_read(tmp_path: Path, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="only safetensors"):
        load_model(folder)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_model(tmp_path / "nothing")


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path, folder: Path) -> None:
    class Full(Tokenizer):
        def save(self, folder: Path) -> None:
            raise OSError("full")

    broken = Full(load_tokenizer(folder).core, {})
    with pytest.raises(OSError, match="full"):
        save_model(tmp_path / "new", random_model(), broken)
    assert {file.name for file in tmp_path.iterdir() if file.name != "triptych-home"} == {"saved"}


def hf_config(**changes: object) -> dict[str, object]:
    return {**ModelConfig(**SHAPE).to_hf_dict(), **changes}


def test_a_disk_without_room_for_the_weights_is_called_that(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError) as refused:
            save_model(tmp_path / "model", random_model())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.code == "disk_full" and not list(tmp_path.iterdir())


def test_every_form_of_rope_settings_is_read() -> None:
    def read(**changes: object) -> ModelConfig:
        values = hf_config(**changes)
        if changes.get("rope_parameters", 1) is None:
            del values["rope_parameters"]
        return ModelConfig.from_hf_dict(values)

    old = read(rope_parameters=None, rope_theta=5e5, rope_scaling={"type": "linear", "factor": 2.0})
    new = read(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5})
    assert old.rope_theta == new.rope_theta == 5e5
    assert old.rope_scaling == new.rope_scaling == {"rope_type": "linear", "factor": 2.0}
    assert ModelConfig.from_hf_dict(old.to_hf_dict()) == old


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt2"}, "'gpt2' model"),
        ({"hidden_act": "gelu"}, "not silu"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope' rotary"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "a part of each head"),
        ({"num_attention_heads": 5, "num_key_value_heads": 2}, "cannot be shared"),
        ({"head_dim": 33}, "even number"),
        ({"vocab_size": 0}, "at least 1"),
    ],
)
def test_a_model_this_decoder_is_not_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        ModelConfig.from_hf_dict(hf_config(**changes))


def test_a_real_qwen3_and_a_real_llama_config_are_read() -> None:
    qwen = ModelConfig.from_hf_dict(
        {
            "model_type": "qwen3",
            "attention_bias": False,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "max_position_embeddings": 40960,
            "max_window_layers": 28,
            "num_attention_heads": 16,
            "num_hidden_layers": 28,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "use_sliding_window": False,
            "vocab_size": 151936,
        }
    )
    assert (qwen.head_dim, qwen.rope_theta, qwen.num_parameters) == (128, 1e6, 596_049_920)
    llama = ModelConfig.from_hf_dict(
        {
            "model_type": "llama",
            "attention_bias": False,
            "eos_token_id": [128001, 128008, 128009],
            "hidden_act": "silu",
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "num_attention_heads": 32,
            "num_hidden_layers": 16,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "vocab_size": 128256,
        }
    )
    assert (llama.head_dim, llama.num_parameters) == (64, 1_235_814_400)
    assert llama.eos_token_ids == (128001, 128008, 128009)
