"""Small model folders with random weights, as they come from `save_model`.

Random weights are enough for parity: the same numbers must come out wherever they run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXTS = [
    "The quick brown fox jumps over the lazy dog, again and again and again.",
    "Ein Fünftel des Zuckers süßt den Käse; crème brûlée für alle!",
    "def add(a, b):\n    return a + b  # 数字を足す 🙂🙃",
    "Company policy 42: don't share the tokens, it's 100% secret.\r\n\r\n\tYes.",
] * 20


def write_random_model(folder: Path, model_type: str, seed: int = 0, **changes: Any) -> Path:
    """Write a model of random weights whose attention and norms all matter to its output."""
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "model_type": model_type,
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "eos_token_id": 2,
        "bos_token_id": 0,
    }
    model = Transformer(ModelConfig(**{**shape, **changes}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(1 + 0.3 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * (0.5 if "embed" in name else 0.15))
    save_model(folder, model.eval(), Tokenizer.train(iter(TEXTS), vocab_size=500))
    return folder


@pytest.fixture(scope="session", params=["qwen3", "llama"])
def random_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of each shape, random weights, grouped key/value heads."""
    return write_random_model(tmp_path_factory.mktemp("random") / request.param, request.param)


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One Qwen3-shaped folder, random weights."""
    return write_random_model(tmp_path_factory.mktemp("random") / "tiny", "qwen3")


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Hand out the function that writes a random model, for other shapes."""
    return write_random_model
