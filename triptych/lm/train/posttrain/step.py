"""One step of SFT, DPO or KTO: the loss is that of the whole batch, however it is divided.

Each part of an accumulated batch is divided by what the whole batch counts (trained tokens, pairs,
answers), so 1 x 32 rows and 32 x 1 give the same gradient. Left out: what every kind of step
shares (`lm/train/optimizer_step`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from triptych.config import Config
from triptych.lm.data.conversations.dataset import Example, Tokens
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.distribution import World
from triptych.lm.train.optimizer_step import OptimizerStep
from triptych.lm.train.posttrain.batches import RowOrder, by_length, lay
from triptych.lm.train.posttrain.frozen import FrozenLayers
from triptych.lm.train.posttrain.general import General
from triptych.lm.train.posttrain.losses import (
    all_logps,
    answer_logps,
    dpo_losses,
    kto_losses,
    trained_losses,
)
from triptych.lm.train.recipe import Recipe


class PosttrainStep(OptimizerStep):
    """Rows drawn by step number, cut into parts of like length, their gradients added up."""

    def __init__(
        self,
        model: Transformer,
        rows: Sequence[Example],
        config: Config,
        recipe: Recipe,
        general: General,
    ) -> None:
        super().__init__(model, config.train, recipe, World())
        self.rows = rows
        self.settings = config.posttrain
        self._general, self._draw_seed = general, config.train.seed
        self._replayed = round(self.settings.replay_frac * recipe.batch_tokens)
        self._answers = [row.answer for row in rows]
        self._order = RowOrder(len(rows), config.train.seed)
        self._seen = [0]
        first = config.lora.first_layer if config.train.adapter == "lora" else 0
        # With dropout a text's states are others each time.
        self._frozen = FrozenLayers(model, first) if first and not recipe.dropout else None

    def tokens_seen(self, steps: int) -> int:
        """Return the tokens read in this many steps."""
        while len(self._seen) <= steps:
            batch = self._order.batch(len(self._seen) - 1, self.recipe.batch_size)
            read = sum(self.rows[row].tokens for row in batch) + self._replayed
            self._seen.append(self._seen[-1] + read)
        return self._seen[steps]

    def _backward(self, step: int) -> float:
        batch = self._order.batch(step, self.recipe.batch_size)
        self._begin_batch(batch)
        total = 0.0
        parts = by_length(self._answers, batch, self.recipe.micro_batch)
        for number, part in enumerate(parts):
            torch.manual_seed(self._seed(step, number))
            loss = self._part_loss(part)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total + self._replay(step, len(parts))

    def _replay(self, step: int, parts: int) -> float:
        """Add the gradient of general text, so that it is not forgotten."""
        if not self._replayed:
            return 0.0
        torch.manual_seed(self._seed(step, parts))
        batch = lay(self._general.pieces(step, self._replayed, self._draw_seed), self.recipe.device)
        losses = self.model.marked_losses(batch.ids, batch.targets, batch.lengths)
        loss = self.settings.replay_frac * losses.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    @abstractmethod
    def _begin_batch(self, batch: list[int]) -> None:
        """Count what the loss of the whole batch is divided by."""

    @abstractmethod
    def _part_loss(self, part: list[int]) -> Tensor:
        """Return this part's share of the batch's loss.

        Shape: a scalar.
        """


class SftStep(PosttrainStep):
    """The mean cross-entropy over the trained tokens of the batch."""

    def _begin_batch(self, batch: list[int]) -> None:
        self._trained = sum(self._answers[row].trained for row in batch)

    def _part_loss(self, part: list[int]) -> Tensor:
        texts = [self._answers[row] for row in part]
        losses, _ = trained_losses(self.model, texts, self.recipe.device, self._frozen)
        return losses.sum() / self._trained


class DpoStep(PosttrainStep):
    """The mean DPO loss over the pairs of the batch; the reference was computed once."""

    def __init__(
        self,
        model: Transformer,
        rows: Sequence[Example],
        config: Config,
        recipe: Recipe,
        general: General,
        reference: Tensor,
    ) -> None:
        """Shape: `reference` (rows, 2), of the chosen and the rejected answers."""
        super().__init__(model, rows, config, recipe, general)
        self._reference = reference.to(recipe.device)

    def _begin_batch(self, batch: list[int]) -> None:
        self._pairs = len(batch)

    def _part_loss(self, part: list[int]) -> Tensor:
        rejected = [row.rejected for row in self.rows]
        texts = [self._answers[row] for row in part]
        texts += [text for row in part if (text := rejected[row]) is not None]
        logps = answer_logps(self.model, texts, self.recipe.device, self._frozen)
        chosen, other = logps[: len(part)], logps[len(part) :]
        losses, _ = dpo_losses(chosen, other, self._reference[part], self.settings.beta)
        return losses.sum() / self._pairs


class KtoStep(PosttrainStep):
    """The mean KTO loss over the answers of the batch, against the batch's estimate of the KL.

    The estimate compares the model with the reference on prompts with another prompt's answer,
    over the whole batch and without gradient, before any part of it is trained on.
    """

    def __init__(
        self,
        model: Transformer,
        rows: Sequence[Example],
        config: Config,
        recipe: Recipe,
        general: General,
        mismatched: Sequence[Tokens],
        reference: Tensor,
    ) -> None:
        """Shape: `reference` (rows, 2), of the answers and the mismatched answers."""
        super().__init__(model, rows, config, recipe, general)
        self._mismatched = mismatched
        self._reference = reference.to(recipe.device)
        self._liked = torch.tensor([bool(row.row.label) for row in rows], device=recipe.device)

    def _begin_batch(self, batch: list[int]) -> None:
        self._answers_in_batch = len(batch)
        others = [self._mismatched[row] for row in batch]
        logps = all_logps(self.model, others, self.recipe.micro_batch).to(self.recipe.device)
        self._kl = (logps - self._reference[batch, 1]).mean().clamp(min=0)

    def _part_loss(self, part: list[int]) -> Tensor:
        texts = [self._answers[row] for row in part]
        logps = answer_logps(self.model, texts, self.recipe.device, self._frozen)
        losses = kto_losses(
            logps,
            self._reference[part, 0],
            self._liked[part],
            self._kl,
            beta=self.settings.beta,
            desirable_weight=self.settings.desirable_weight,
            undesirable_weight=self.settings.undesirable_weight,
        )
        return losses.sum() / self._answers_in_batch
