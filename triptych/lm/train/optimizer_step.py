"""What every kind of step shares: gradients of one batch, clipping, the optimizer, averaging.

Which rows a step reads, and which activations its dropout zeroes, are pure functions of (data
fingerprint, seed, step). So a resumed run needs only the weights and the optimizer's tensors to
continue to the bit; no generator state is saved. Left out: the batch and its loss
(`train_step`, `posttrain/step`), events, files and when to evaluate (`trainer`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.config.train import TrainConfig
from triptych.lm.model.memory import keep_freed_memory
from triptych.lm.model.tensors import whole
from triptych.lm.model.transformer import Transformer
from triptych.lm.train import distribution
from triptych.lm.train.distribution import World
from triptych.lm.train.optimizers import build_optimizers
from triptych.lm.train.probe import DTYPES
from triptych.lm.train.recipe import Recipe
from triptych.lm.train.schedules import lr_share, momentum_at


@dataclass(frozen=True)
class StepResult:
    """The result of one step.

    Units: `loss` in nats per token over the batch of all processes; `grad_norm` before clipping;
        `lr` of the first parameter group; `stop_votes` processes that were asked to stop.
    """

    loss: float
    grad_norm: float
    lr: float
    stop_votes: int


class OptimizerStep(ABC):
    """A model, its optimizers and its averaged weights; `step` trains on one batch.

    `evaluated()` yields the weights to evaluate, sample and publish: the trained ones, or their
    average. Under fsdp no process ever holds them whole.
    """

    def __init__(
        self, model: Transformer, train: TrainConfig, recipe: Recipe, world: World
    ) -> None:
        self.train = train
        self.recipe = recipe
        self._world = world
        if recipe.device == "cpu":
            keep_freed_memory()
        self.model = model.to(recipe.device)
        model.compute_dtype = DTYPES[recipe.precision]
        model.set_dropout(recipe.dropout)
        model.set_gradient_checkpointing(train.gradient_checkpointing)
        self.is_spread = world.size > 1 and train.parallel == "fsdp"
        self._averages = recipe.ema_decay > 0
        # Copied before the model is parallelized, which puts hooks into it.
        apart = self._averages and not self.is_spread
        self._average_model = deepcopy(model).eval().requires_grad_(False) if apart else model
        self._loss, self._set_grad_sync = distribution.parallelize(
            model, world, train.parallel,
            compiled=recipe.compile, dtype=DTYPES[recipe.precision],
        )  # fmt: skip
        self._average_shards = (
            [p.detach().clone() for p in model.parameters()]
            if self._averages and self.is_spread
            else []
        )
        self.optimizers = build_optimizers(model, train, recipe, dtype=DTYPES[recipe.precision])

    @abstractmethod
    def tokens_seen(self, steps: int) -> int:
        """Return the tokens read in this many steps."""

    @abstractmethod
    def _backward(self, step: int) -> float:
        """Add up the gradients of this process's part of a batch; return its mean loss."""

    def step(self, step: int, *, stop_vote: bool = False) -> StepResult:
        """Take step `step`, counted from 0; the batch and dropout depend on nothing else.

        `stop_vote` is added up over all processes: a signal reaches only some of them, and all
        must stop after the same step.
        """
        self.model.train()
        self.optimizers.zero_grad()
        # One all_reduce for both figures: a collective costs the same for one number or two.
        total = torch.zeros(2, dtype=torch.float64)
        total[0] = self._backward(step) / self._world.size
        total[1] = stop_vote
        self._world.all_reduce(total)
        grad_norm = self._clip()
        share = self._share(step)
        self.optimizers.step(
            share, momentum_at(step + self.recipe.first_batch, self.train.momentum)
        )
        self._average(step)
        return StepResult(
            loss=float(total[0]),
            grad_norm=grad_norm,
            lr=self.recipe.learning_rate * share,
            stop_votes=int(total[1]),
        )

    def _seed(self, step: int, number: int) -> int:
        """Return the seed of dropout for one part of a batch; different on every process."""
        name = f"{self.train.seed} {step} {number} {self._world.rank}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:7], "little")

    def _clip(self) -> float:
        """Clip the gradients and return their norm before clipping, over all processes."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        limit = self.train.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        return float(whole(norm))

    def _share(self, step: int) -> float:
        return lr_share(
            self.train.schedule,
            step,
            steps=self.recipe.steps,
            warmup_steps=self.recipe.warmup_steps,
            cooldown_frac=self.train.cooldown_frac,
            final_lr_frac=self.train.final_lr_frac,
        )

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Update the averaged weights; early in a run they follow the trained ones closely."""
        if not self._averages:
            return
        # A fixed decay of 0.999 would keep the random start in the average for thousands of
        # steps; this one averages over about a tenth of the steps so far.
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))
        averaged = self._average_shards or list(self._average_model.parameters())
        trained = [distribution.own_part(p) for p in self.model.parameters()]
        torch._foreach_lerp_([distribution.own_part(p) for p in averaged], trained, 1.0 - decay)

    @contextmanager
    def evaluated(self) -> Iterator[Transformer]:
        """Yield the model to evaluate, sample and publish, in evaluation mode.

        Under fsdp it is spread like the trained one, and the average stands in its place until the
        block ends; whatever is done with it is a collective.
        """
        model = self._average_model
        was_training = model.training
        model.eval()
        try:
            self._exchange()
            yield model
        finally:
            self._exchange()
            model.train(was_training)

    @torch.no_grad()
    def _exchange(self) -> None:
        """Swap the trained shards and the averaged ones, a parameter at a time."""
        if self.is_spread:
            # Groups that are still whole after a forward pass would hide the exchange.
            distribution.reshard(self.model)
        for parameter, average in zip(self.model.parameters(), self._average_shards, strict=False):
            ours, theirs = distribution.own_part(parameter), distribution.own_part(average)
            kept = ours.clone()
            ours.copy_(theirs)
            theirs.copy_(kept)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return what resuming needs beside the weights of `evaluated()`, inside its block.

        Shape: named `trained/...` and `kind/parameter`; under fsdp spread, else on the CPU.
        """
        tensors = dict(self.optimizers.state_tensors())
        if self._averages:
            # Inside the block of `evaluated()` the two have changed places.
            trained = self._average_shards or [p.detach() for p in self.model.parameters()]
            tensors |= {
                f"trained/{name}": value
                for (name, p), value in zip(self.model.named_parameters(), trained, strict=True)
                if p.requires_grad
            }
        return tensors if self.is_spread else {name: t.cpu() for name, t in tensors.items()}

    @torch.no_grad()
    def load_state(self, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint's weights and what `state_tensors` returned.

        Shape: whole tensors; they are sharded here where the parameters are.
        """
        # Where the run averages, the checkpoint's weights are the average (that is what gets
        # published), and the trained weights are among the tensors.
        prefix = "trained/"
        names = [name for name in tensors if name.startswith(prefix)]
        trained = Chosen(tensors, {name.removeprefix(prefix): name for name in names})
        load_parameters(self.model, trained if names else weights)
        if self._average_model is not self.model:
            load_parameters(self._average_model, weights)
        for (name, _), average in zip(
            self.model.named_parameters(), self._average_shards, strict=False
        ):
            average.copy_(distribution.place_like(average)(weights[name]))
        rest = {name: name for name in tensors if not name.startswith(prefix)}
        self.optimizers.load_state_tensors(Chosen(tensors, rest))


class Chosen(Mapping[str, Tensor]):
    """Some tensors of a mapping under other names, each read only when it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        """Shape: any; `names` maps each name here to the one there."""
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@torch.no_grad()
def load_parameters(model: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into a model's trained parameters, sharded or not.

    Shape: each that of the parameter of its name.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and name not in weights:  # the frozen base of an adapter
            continue
        parameter.copy_(distribution.place_like(parameter)(weights[name]))
