"""An ONNX file gives the model's logits in onnxruntime, for any batch and length."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from triptych.errors import StorageError
from triptych.lm.export.onnx import export_onnx
from triptych.lm.generate.parity import onnx_difference


def test_onnxruntime_gives_the_same_logits_for_any_batch_and_length(
    write_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model", "qwen3", num_hidden_layers=1)
    report = export_onnx(folder, tmp_path / "onnx")
    shapes = [(1, 1), (1, 512), (4, 33)]
    assert onnx_difference(folder, report.path, shapes) < 1e-4
    assert json.loads((tmp_path / "onnx" / "config.json").read_text())["model_type"] == "qwen3"
    domains = {node.domain for node in onnx.load(report.path).graph.node}
    assert domains == {""}
    with pytest.raises(StorageError):
        export_onnx(folder, tmp_path / "onnx")


@pytest.mark.prove
def test_llama_exports_too(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "llama", tie_word_embeddings=True)
    report = export_onnx(folder, tmp_path / "onnx")
    assert onnx_difference(folder, report.path) < 1e-4
