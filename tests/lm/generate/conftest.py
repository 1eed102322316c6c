"""A small real tokenizer, small models, and their checkpoint folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.lm.generate.torch_engine import TorchEngine
from triptych.lm.model.checkpoint import save_model
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer

TEXT = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Ein Fünftel des Zuckers süßt den Käse; crème brûlée für alle!",
    "def add(a, b):\n    return a + b  # 数字を足す 🙂🙃",
] * 20


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(iter(TEXT), vocab_size=400)


def build_model(model_type: str = "qwen3", seed: int = 0, **changes: Any) -> Transformer:
    shape: dict[str, Any] = {
        "model_type": model_type,
        "vocab_size": 400,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2 if model_type == "qwen3" else 4,
        "head_dim": 16,
        "max_position_embeddings": 640,
        "eos_token_id": 0,
    }
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(**{**shape, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.1 + (weight.dim() == 1))
    return model.eval()


@pytest.fixture(scope="session", params=["qwen3", "llama"])
def folder(
    request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A checkpoint folder of each kind."""
    path = tmp_path_factory.mktemp("checkpoints") / request.param
    save_model(path, build_model(request.param), tokenizer)
    return path


@pytest.fixture(scope="session")
def engine(folder: Path) -> Iterator[TorchEngine]:
    running = TorchEngine.load(folder, dtype="float32", max_batch=16)
    yield running
    running.close()
