"""`triptych export` writes files and verifies them by running them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triptych.cli.main import main
from triptych.lm.export import gguf


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model folder of random weights."""
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    torch.manual_seed(0)
    config = ModelConfig(
        model_type="llama",
        vocab_size=384,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
    )
    model = Transformer(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.15 + (weight.dim() == 1))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    texts = iter(["The company sells tools, and asks again: doesn't it?"] * 20)
    save_model(folder, model.eval(), Tokenizer.train(texts, vocab_size=380))
    return folder


def test_a_gguf_file_is_written_verified_and_described(
    checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "tiny.gguf"
    arguments = ["export", str(checkpoint), "--dtype", "f32", "--out", str(out), "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == str(out) and out.is_file()
    assert report["max_difference_nats"] < 5e-3
    assert abs(report["loss_bits_per_byte"]) < 1e-3
    assert (tmp_path / "Modelfile").is_file()


def test_the_loss_of_a_narrow_width_is_printed_in_bits_per_byte(
    checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "tiny.q8.gguf"
    assert main(["export", str(checkpoint), "--dtype", "q8_0", "--out", str(out)]) == 0
    assert "loss bits per byte" in capsys.readouterr().out


def test_a_file_that_is_another_model_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(gguf, "_reader", lambda config, weights, name: lambda: weights.read(name))
    out = tmp_path / "wrong.gguf"
    assert main(["export", str(checkpoint), "--dtype", "f32", "--out", str(out)]) == 1
    assert "not the same model" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_said_so(tmp_path: Path, capsys: Any) -> None:
    assert main(["export", str(tmp_path / "nothing")]) == 1
    assert "hint" in capsys.readouterr().err


def test_f10_a_template_no_modelfile_can_hold_costs_the_modelfile_alone(
    checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    import shutil

    folder = shutil.copytree(checkpoint, tmp_path / "free")
    (folder / "manifest.json").unlink()
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["chat_template"] = "<|im_start|>system\nBe kind.<|im_end|>\n" + str(
        settings.get("chat_template") or (folder / "chat_template.jinja").read_text()
    )
    file.write_text(json.dumps(settings))
    out = tmp_path / "free.gguf"
    arguments = ["export", str(folder), "--dtype", "f32", "--out", str(out), "--json"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert report["modelfile"] == "" and "loss_bits_per_byte" in report
    assert "no Modelfile" in shown.err and not (tmp_path / "Modelfile").exists()
