"""The validation figures of a post-training run: loss of the answers, margin of preferences.

Bits per byte count the trained tokens of the answers (the chosen ones of pairs) and their text.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from triptych.config.posttrain import PosttrainConfig
from triptych.lm.data.conversations.dataset import Examples
from triptych.lm.evaluate.loss import Measurement
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.posttrain.losses import all_logps, dpo_losses, kto_losses
from triptych.lm.train.recipe import Recipe


class Evaluator:
    """Measure a model on validation rows."""

    def __init__(
        self,
        kind: str,
        val: Examples,
        tokenizer: Tokenizer,
        recipe: Recipe,
        settings: PosttrainConfig,
    ) -> None:
        self._kind, self._rows, self._recipe, self._settings = kind, val.rows, recipe, settings
        self._byte_lengths = tokenizer.token_byte_lengths()

    def measure(
        self, model: Transformer, reference: Tensor | None, most_tokens: int | None
    ) -> Measurement:
        """Return the scores of a model, on all rows or on the first ones of `most_tokens`.

        Shape: `reference` (rows, 2), of the same rows; None for SFT.
        """
        started_s = time.perf_counter()
        count = self._count(most_tokens)
        rows, size = self._rows[:count], self._recipe.micro_batch
        logps = all_logps(model, [row.answer for row in rows], size)
        counted = [row.answer.ids[1:][row.answer.mask[1:]] for row in rows]
        extra: dict[str, float] = {}
        if reference is not None:
            extra = self._preferences(model, logps, reference[:count])
        return Measurement(
            nats=-float(logps.double().sum()),
            tokens=sum(len(ids) for ids in counted),
            text_bytes=sum(int(self._byte_lengths[ids].sum()) for ids in counted),
            seconds=time.perf_counter() - started_s,
            **extra,
        )

    def _count(self, most_tokens: int | None) -> int:
        """Return how many of the first rows to read."""
        if most_tokens is None:
            return len(self._rows)
        read = 0
        for number, row in enumerate(self._rows):
            read += row.tokens
            if read > most_tokens and number:
                return number
        return len(self._rows)

    def _preferences(
        self, model: Transformer, logps: Tensor, reference_B2: Tensor
    ) -> dict[str, float]:
        rows, settings = self._rows[: len(logps)], self._settings
        if self._kind == "dpo":
            others = [row.rejected for row in rows if row.rejected is not None]
            rejected = all_logps(model, others, self._recipe.micro_batch)
            losses, margins = dpo_losses(logps, rejected, reference_B2, settings.beta)
            right = (margins > 0).float()
            return {
                "preference_loss": float(losses.mean()),
                "margin": float(margins.mean()),
                "accuracy": float(right.mean()),
            }
        rewards = settings.beta * (logps - reference_B2[:, 0])
        liked = torch.tensor([bool(row.row.label) for row in rows])
        losses = kto_losses(
            logps,
            reference_B2[:, 0],
            liked,
            torch.zeros(()),
            beta=settings.beta,
            desirable_weight=settings.desirable_weight,
            undesirable_weight=settings.undesirable_weight,
        )
        sides = [rewards[chosen].mean() for chosen in (liked, ~liked) if chosen.any()]
        return {
            "preference_loss": float(losses.mean()),
            "margin": float(sides[0] - sides[1]) if len(sides) == 2 else float(sides[0]),
            "accuracy": float(((rewards > 0) == liked).float().mean()),
        }
