"""The validation figures of a post-training run: loss of the answers, margin of preferences.

Bits per byte count the trained tokens of the answers (the chosen ones of pairs) and their text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from triptych.config.posttrain import PosttrainConfig
from triptych.lm.data.conversations.dataset import Examples, Tokens
from triptych.lm.evaluate.loss import Measurement, measure
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.posttrain.losses import all_logps, dpo_losses, kto_losses
from triptych.lm.train.recipe import Recipe

_GENERAL_CONTEXT = 256


class Evaluator:
    """Measure a model on validation rows."""

    def __init__(
        self,
        kind: str,
        val: Examples,
        tokenizer: Tokenizer,
        recipe: Recipe,
        settings: PosttrainConfig,
        general: np.ndarray,
        mismatched: Sequence[Tokens] = (),
    ) -> None:
        """`mismatched` are the validation prompts with another prompt's answer, for KTO.

        Shape: `general` (T,), the tokens of the general text.
        """
        self._general = general
        self._mismatched = mismatched
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
        extra = {"general_bpb": self._general_bpb(model)}
        if reference is not None:
            extra |= self._preferences(model, logps, reference[:count])
        return Measurement(
            nats=-float(logps.double().sum()),
            tokens=sum(len(ids) for ids in counted),
            text_bytes=sum(int(self._byte_lengths[ids].sum()) for ids in counted),
            seconds=time.perf_counter() - started_s,
            **extra,
        )

    def _general_bpb(self, model: Transformer) -> float:
        """Return the bits per byte of general text: what is forgotten shows there."""
        ids = self._general
        return measure(
            model,
            lambda start, count: ids[start : start + count],
            len(ids),
            self._byte_lengths,
            context_length=min(_GENERAL_CONTEXT, model.config.max_position_embeddings),
            batch_size=4,
        ).bpb

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
        # The same estimate of the divergence as in training, over all validation rows.
        mixed = self._mismatched[: len(logps)]
        moved = all_logps(model, mixed, self._recipe.micro_batch) - reference_B2[:, 1]
        kl = moved.mean().clamp(min=0)
        liked = torch.tensor([bool(row.row.label) for row in rows])
        losses = kto_losses(
            logps,
            reference_B2[:, 0],
            liked,
            kl,
            beta=settings.beta,
            desirable_weight=settings.desirable_weight,
            undesirable_weight=settings.undesirable_weight,
        )
        sides = [rewards[chosen].mean() for chosen in (liked, ~liked) if chosen.any()]
        return {
            "preference_loss": float(losses.mean()),
            "margin": float(sides[0] - sides[1]) if len(sides) == 2 else float(sides[0]),
            "kl": float(kl),
            "accuracy": float(((rewards > 0) == liked).float().mean()),
        }
