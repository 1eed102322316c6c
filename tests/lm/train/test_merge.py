"""`triptych merge`: an adapter becomes a folder with the same logits, or nothing is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from triptych.cli.main import main
from triptych.errors import CheckpointError
from triptych.lm.model import lora
from triptych.lm.model.adapter_record import (
    AdapterRecord,
    template_sha256,
    weights_sha256,
    write_record,
)
from triptych.lm.model.checkpoint import load_model, load_tokenizer, save_model
from triptych.lm.model.tensors import save_tensors
from triptych.lm.train.posttrain.merge import find_adapter, merge_adapter, prompts


@pytest.fixture
def adapter(qwen3_folder: Path, tmp_path: Path) -> Path:
    """An adapter that changes the answers of the tiny model."""
    model = load_model(qwen3_folder)
    lora.attach_lora(model, lora.LoraConfig(rank=4))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.requires_grad):
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
    lora.save_lora(tmp_path / "adapter", model, str(qwen3_folder))
    tokenizer = load_tokenizer(qwen3_folder)
    hashes = weights_sha256(qwen3_folder), template_sha256(tokenizer)
    write_record(tmp_path / "adapter", AdapterRecord(str(qwen3_folder), *hashes))
    return tmp_path / "adapter"


def test_a_merged_folder_is_an_ordinary_model_with_the_logits_of_the_adapter(
    adapter: Path, qwen3_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    assert main(["merge", str(adapter), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["difference"] <= 1e-3
    assert printed["rounding"] == 0
    base = load_model(qwen3_folder)
    ids = torch.tensor([load_tokenizer(out).encode("one plus one is two")])
    with torch.no_grad():
        before = base(ids)
        lora.load_lora(adapter, base)
        wanted, found = base(ids), load_model(out)(ids)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    assert (before - wanted).abs().max() > 0.1, "an adapter that changes nothing proves nothing"


def test_bfloat16_is_saved_as_such_and_its_rounding_is_reported(
    adapter: Path, qwen3_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    arguments = ["--base", str(qwen3_folder), "--out", str(out), "--dtype", "bfloat16"]
    assert main(["merge", str(adapter), *arguments]) == 0
    assert "rounding to bfloat16" in capsys.readouterr().out
    assert load_model(out).lm_head.weight.dtype == torch.bfloat16


def test_weights_that_do_not_agree_are_refused_and_nothing_is_written(
    adapter: Path, tmp_path: Path
) -> None:
    file = adapter / lora.WEIGHTS
    tensors = load_file(file)
    for name, weight in tensors.items():
        # Two large halves that cancel: float32 keeps few digits of what is left.
        if "lora_A" in name:
            weight[2:] = weight[:2] * (1 + 1e-6)
        else:
            weight[:, 2:] = -weight[:, :2]
        weight *= 1e4
    save_tensors(tensors, file)
    with pytest.raises(CheckpointError, match=r"logits by [\d.]+, 0.001 is allowed"):
        merge_adapter(find_adapter(str(adapter), Path), tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


def test_the_merge_is_proven_on_64_different_prompts(qwen3_folder: Path) -> None:
    texts = [tuple(ids) for ids in prompts(load_tokenizer(qwen3_folder))]
    assert len(set(texts)) == 64


def test_a_base_with_other_weights_is_refused(
    adapter: Path, qwen3_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    model = load_model(qwen3_folder)
    with torch.no_grad():
        model.lm_head.weight[0] += 1e-3
    save_model(other, model, load_tokenizer(qwen3_folder))
    with pytest.raises(CheckpointError, match="are not those that") as refused:
        find_adapter(str(adapter), Path, str(other))
    assert refused.value.code == "base"


def test_a_base_with_a_changed_chat_template_is_refused(
    adapter: Path, qwen3_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(qwen3_folder, other)
    (other / "manifest.json").unlink()
    tokenizer = load_tokenizer(other)
    assert tokenizer.chat_template
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        if (other / file).is_file():
            text = (other / file).read_text()
            (other / file).write_text(text.replace("assistant", "helper"))
    assert load_tokenizer(other).chat_template != tokenizer.chat_template
    with pytest.raises(CheckpointError, match="chat template") as refused:
        find_adapter(str(adapter), Path, str(other))
    assert refused.value.code == "base"


def test_a_folder_without_an_adapter_is_refused(qwen3_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no adapter to merge"):
        find_adapter(str(qwen3_folder), Path)
