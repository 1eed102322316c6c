"""What every kind of step shares: gradients of one batch, clipping, the optimizer, averaging.

Which rows a step reads, and which activations its dropout zeroes, are pure functions of (data
fingerprint, seed, step). So a resumed run needs only the weights and the optimizer's tensors to
continue to the bit; no generator state is saved. Left out: the batch and its loss
(`train_step`, `posttrain/step`), events, files and when to evaluate (`trainer`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.config.train import TrainConfig
from triptych.lm.model.memory import keep_freed_memory
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

    `eval_model` holds the weights to evaluate, sample and publish. It is the trained model
    itself, except where that is sharded (fsdp) or where the run averages its weights.
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
        # Copied before the model is parallelized: a deep copy of a sharded model is sharded.
        apart = recipe.ema_decay > 0 or (world.size > 1 and train.parallel == "fsdp")
        self.eval_model = deepcopy(model).eval().requires_grad_(False) if apart else model
        self._loss, self._set_grad_sync = distribution.parallelize(
            model, world, train.parallel, compiled=recipe.compile
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
        return float(distribution.full_tensor(norm))

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
        if self.recipe.ema_decay:
            # A fixed decay of 0.999 would keep the random start in the average for thousands of
            # steps; this one averages over about a tenth of the steps so far.
            decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))
            trained = [distribution.full_tensor(p) for p in self.model.parameters()]
            torch._foreach_lerp_(list(self.eval_model.parameters()), trained, 1.0 - decay)

    def refresh_eval_model(self) -> Transformer:
        """Bring `eval_model` up to date and return it; a collective under fsdp."""
        if self.eval_model is not self.model and not self.recipe.ema_decay:
            self._copy(self.model, self.eval_model)
        return self.eval_model

    @torch.no_grad()
    def _copy(self, source: Transformer, target: Transformer) -> None:
        for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
            theirs.copy_(distribution.full_tensor(ours))

    def state_tensors(self) -> dict[str, Tensor]:
        """Return what resuming needs beside the weights of `eval_model`; a collective under fsdp.

        Shape: whole tensors on the CPU, named `trained/...` and `kind/parameter`.
        """
        tensors = dict(self.optimizers.state_tensors())
        if self.recipe.ema_decay:
            tensors |= {
                f"trained/{name}": p.detach()
                for name, p in self.model.named_parameters()
                if p.requires_grad
            }
        return {name: distribution.full_tensor(tensor).cpu() for name, tensor in tensors.items()}

    @torch.no_grad()
    def load_state(self, weights: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
        """Continue from a checkpoint's weights and what `state_tensors` returned.

        Shape: whole tensors; they are sharded here where the parameters are.
        """
        # Where the run averages, the checkpoint's weights are the average (that is what gets
        # published), and the trained weights are among the tensors.
        trained = {k.removeprefix("trained/"): t for k, t in tensors.items() if "trained/" in k}
        load_parameters(self.model, trained or weights)
        if self.eval_model is not self.model:
            load_parameters(self.eval_model, weights)
        rest = {k: t for k, t in tensors.items() if not k.startswith("trained/")}
        self.optimizers.load_state_tensors(rest)


@torch.no_grad()
def load_parameters(model: Transformer, weights: dict[str, Tensor]) -> None:
    """Copy whole tensors into a model's trained parameters, sharded or not.

    Shape: each that of the parameter of its name.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and name not in weights:  # the frozen base of an adapter
            continue
        parameter.copy_(distribution.place_like(parameter)(weights[name]))
