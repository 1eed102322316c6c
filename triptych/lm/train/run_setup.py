"""What a trainer needs from a run, whatever is trained: the interface of pretraining and tuning.

Left out: how each kind fills it in (`setup` for pretraining, `posttrain/setup` for the others).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.config import Config
from triptych.lm.evaluate.loss import Measurement
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.distribution import World
from triptych.lm.train.optimizer_step import OptimizerStep
from triptych.lm.train.recipe import Recipe


class RunSetup(ABC):
    """Everything a run needs before its first step."""

    kind: str
    config: Config
    model: Transformer
    recipe: Recipe
    tokenizer: Tokenizer

    @property
    @abstractmethod
    def data_fingerprint(self) -> str:
        """Return the hash of the data that is trained on."""

    @property
    @abstractmethod
    def val_tokens(self) -> int:
        """Return how many tokens the whole validation split scores."""

    @abstractmethod
    def make_step(self, world: World) -> OptimizerStep:
        """Return what takes the steps."""

    @abstractmethod
    def measure(self, model: Transformer, most_tokens: int | None) -> Measurement:
        """Return the scores of a model on the validation split, or on a part of it."""

    @abstractmethod
    def sample_prompts(self) -> list[str]:
        """Return the prompts of the samples, the same at every step."""

    @abstractmethod
    def generate_samples(self, model: Transformer, prompts: list[str]) -> list[str]:
        """Return a model's continuation of each prompt."""

    @abstractmethod
    def save_model(self, folder: Path, model: Transformer) -> None:
        """Write what is published of a model into a checkpoint folder."""

    @abstractmethod
    def load_weights(self, folder: Path) -> dict[str, Tensor]:
        """Load what `save_model` wrote.

        Shape: one tensor for each trained parameter, whole, under the parameter's name.
        """

    @abstractmethod
    def saved_config(self) -> dict[str, Any]:
        """Return what restoring a run reads: the sections that define it, and what was derived."""

    def begin(self, run_dir: Path) -> list[str]:
        """Write what a new run keeps beside its checkpoints.

        Returns: messages for a person.
        """
        return []

    def checkpoint_bytes(self) -> int:
        """Return the size of what `save_model` writes."""
        return sum(weight.numel() * weight.element_size() for weight in self.model.parameters())
