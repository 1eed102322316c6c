"""What the reference model thinks of every answer, computed once and kept in the run folder.

The reference is the model as the run begins: with a new adapter, the base alone. Its weights are
never needed again, so DPO and KTO hold one model in memory and take one pass a step less.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from triptych.errors import RunError
from triptych.lm.data.conversations.dataset import Example, Examples, Tokens, encode_mismatched
from triptych.lm.model.tensors import save_tensors
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.checkpoints import load_tensors
from triptych.lm.train.posttrain.losses import all_logps
from triptych.lm.train.recipe import Recipe

FILE = "reference.safetensors"


class Reference:
    """Log-probabilities of the training and validation answers; nothing for SFT."""

    def __init__(
        self, kind: str, train: Examples, val: Examples, tokenizer: Tokenizer, recipe: Recipe
    ) -> None:
        self._kind, self._train, self._val, self._recipe = kind, train, val, recipe
        self._logps: dict[str, Tensor] = {}
        self.mismatched: Sequence[Tokens] = ()
        self.val_mismatched: Sequence[Tokens] = ()
        if kind == "kto":
            context = recipe.context_length
            self.mismatched = encode_mismatched(train.rows, tokenizer, context)
            self.val_mismatched = encode_mismatched(val.rows, tokenizer, context)

    def compute(self, model: Transformer, run_dir: Path) -> None:
        """Compute what is not there yet and write it to the run folder."""
        if self._kind == "sft":
            return
        self._complete(model)
        save_tensors(self._logps, run_dir / FILE)

    def load(self, run_dir: Path) -> None:
        """Read what a run computed when it began.

        Raises: RunError where it is missing; it cannot be computed from trained weights.
        """
        if self._kind == "sft":
            return
        file = run_dir / FILE
        if not file.is_file():
            raise RunError(f"{file} is missing", hint="start a new run")
        self._logps = load_tensors(file)

    def train_logps(self, model: Transformer) -> Tensor:
        """Return the training rows' figures.

        Shape: (rows, 2): chosen and rejected of DPO; answer and mismatched answer of KTO.
        """
        self._complete(model)
        return self._logps["train"]

    def val_logps(self, model: Transformer) -> Tensor | None:
        """Return the validation rows' figures, None for SFT.

        Shape: as `train_logps`.
        """
        if self._kind == "sft":
            return None
        self._complete(model)
        return self._logps["val"]

    def _complete(self, model: Transformer) -> None:
        if not self._logps:
            self._logps["train"] = self._both(model, self._train.rows, self.mismatched)
            same = self._val.rows is self._train.rows
            self._logps["val"] = (
                self._logps["train"].clone()
                if same
                else self._both(model, self._val.rows, self.val_mismatched)
            )

    def _both(
        self, model: Transformer, rows: Sequence[Example], mismatched: Sequence[Tokens]
    ) -> Tensor:
        answers = [row.answer for row in rows]
        others = list(mismatched) or [row.rejected for row in rows if row.rejected is not None]
        size = self._recipe.micro_batch
        model.to(self._recipe.device)
        both = [all_logps(model, texts, size) for texts in (answers, others)]
        return torch.stack(both, dim=1)
