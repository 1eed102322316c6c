"""Small shapes of both kinds, and `transformers` as the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from triptych.lm.model.config import ModelConfig
from triptych.lm.model.transformer import Transformer

SHAPE: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "rope_theta": 10_000.0,
}


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    torch.set_num_threads(1)


def random_model(seed: int = 0, **changes: Any) -> Transformer:
    """A model whose every weight is random, so that nothing cancels by being zero or one."""
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(**{**SHAPE, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.08 + (weight.dim() == 1))
    return model.eval()


def random_ids(*shape: int, vocab_size: int = SHAPE["vocab_size"], seed: int = 1) -> torch.Tensor:
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def theirs(folder: Any) -> Any:
    """The oracle's model of a checkpoint folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()
