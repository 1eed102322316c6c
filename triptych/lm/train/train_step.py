"""One step of pretraining: rows of the corpus, next-token loss, all parameters.

Left out: what every kind of step shares (`optimizer_step`), events, files and when to evaluate
(`trainer`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from triptych.config.train import TrainConfig
from triptych.lm.data import loader
from triptych.lm.data.shards import TokenShards
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.distribution import World
from triptych.lm.train.optimizer_step import OptimizerStep
from triptych.lm.train.recipe import Recipe


class TrainStep(OptimizerStep):
    """Train a model on the next tokens of a corpus, batch by batch."""

    def __init__(
        self,
        model: Transformer,
        shards: TokenShards,
        train: TrainConfig,
        recipe: Recipe,
        world: World,
    ) -> None:
        super().__init__(model, train, recipe, world)
        self._shards = shards
        self._batches = loader.batches_per_epoch(shards, recipe.batch_size, recipe.context_length)

    def tokens_seen(self, steps: int) -> int:
        """Return the tokens read in this many steps."""
        return steps * self.recipe.batch_tokens

    def _backward(self, step: int) -> float:
        parts = self._micro_batches(step)
        total = torch.zeros((), dtype=torch.float64)
        for number, (inputs, targets) in enumerate(parts):
            torch.manual_seed(self._seed(step, number))
            # Gradients of an accumulated batch are exchanged once, with its last part.
            self._set_grad_sync(number == len(parts) - 1)
            loss = self._loss(inputs, targets) / len(parts)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach().double().cpu()
        return float(total)

    def _micro_batches(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """Return this process's part of a batch as (ids_BT, targets_BT), B at most micro_batch."""
        recipe, world = self.recipe, self._world
        epoch, index = loader.locate(step + recipe.first_batch, self._batches)
        arrays = loader.batch(
            self._shards,
            seed=self.train.seed,
            epoch=epoch,
            index=index,
            batch_size=recipe.batch_size,
            sequence_length=recipe.context_length,
        )
        # Every process reads the whole batch (it is a few memory-mapped rows) and keeps its own:
        # 1 process and 8 see the same rows in the same order.
        share = recipe.batch_size // world.size
        mine = slice(world.rank * share, (world.rank + 1) * share)
        inputs, targets = (torch.from_numpy(a[mine]).to(recipe.device) for a in arrays)
        size = recipe.micro_batch
        return list(zip(torch.split(inputs, size), torch.split(targets, size), strict=True))
