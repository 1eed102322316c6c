"""Optimizers: Muon beside AdamW groups, and torch's AdamW, Adam and SGD, behind one small set.

`build_optimizers` sorts parameters into groups; `OptimizerSet` steps them at a share of their
peak rates and turns their state into named tensors for the checkpoint. Left out: choosing the
rates (`recipe`) and how they change (`schedules`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from triptych.config.train import TrainConfig
from triptych.lm.model.tensors import is_spread, whole
from triptych.lm.train import distribution
from triptych.lm.train.recipe import Recipe

# Coefficients (a, b, c) of five odd polynomials a x + b x^3 + c x^5. Applied one after another to
# the singular values of a matrix, they move every value in (0, 1] towards 1, so the matrix towards
# the orthogonal one with the same singular vectors. Each line is the best polynomial for the
# interval that the line before leaves: the first is steep and lifts tiny values, the last is
# gentle. They are tuned for values of at most 1 and diverge above: hence the division by 1.02
# times the norm (the Frobenius norm bounds the largest singular value, 2 % cover rounding in
# bfloat16).
# Source: Polar Express, Amsel et al. 2025 (arXiv 2505.16932), with a 2 % safety margin.
_POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalise(matrices_NRC: Tensor, dtype: torch.dtype) -> Tensor:
    """Replace each matrix by (nearly) the orthogonal matrix with the same singular vectors.

    Shape: (N, R, C), N matrices of R rows and C columns; returned in the same shape.
    Source: Muon, Keller Jordan 2024; the polynomial is Polar Express.
    """
    x = matrices_NRC.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:  # the Gram matrix below is R x R: transposed, it has the shorter side
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in _POLAR_EXPRESS:
        # a x + (b G + c G G) x with G = x x^T is the polynomial above on the singular values;
        # products with R x R matrices avoid any decomposition. Each baddbmm adds and multiplies.
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, then an orthogonalised step, for matrices inside the blocks.

    Every singular direction of a matrix moves equally far, so one rate fits all of them; a tall
    matrix takes the step of a square one scaled by the root of its aspect ratio. Weight decay
    is "cautious": see `_cautious_step`. Matrices of one shape are stacked and processed as one
    batch; under data parallelism each process orthogonalises its share of the batch.

    Source: Keller Jordan 2024; cautious decay from Chen et al. 2025 (arXiv 2510.12402).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one optimizer step from the gradients."""
        assert closure is None
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                updates = self._orthogonal(self._moments(parameters, group["momentum"]))
                for parameter, update in zip(parameters, updates, strict=True):
                    _cautious_step(parameter, update, group["lr"], scale, group["weight_decay"])

    def _moments(self, parameters: Sequence[nn.Parameter], momentum: float) -> list[Tensor]:
        moments = []
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            moments.append(state["momentum"])
        torch._foreach_lerp_(moments, gradients, 1.0 - momentum)
        # Nesterov momentum: the gradient blended once more with the moment it has just updated.
        return list(torch._foreach_lerp(gradients, moments, momentum))

    def _orthogonal(self, moments: Sequence[Tensor]) -> Sequence[Tensor]:
        if is_spread(moments[0]):
            return self._orthogonal_in_turn(moments)
        stacked = torch.stack(list(moments))
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return orthogonalise(stacked, self.dtype).float().unbind()
        # Every process has the same moments. Each does a part of the matrices, padded with zeros
        # to equal parts (all_gather wants equal sizes), then all parts are exchanged.
        size, rank = dist.get_world_size(), dist.get_rank()
        share = -(-len(moments) // size)
        padded = torch.zeros(share * size, *stacked.shape[1:], dtype=self.dtype)
        padded = padded.to(stacked.device)
        padded[: len(moments)] = stacked
        mine = orthogonalise(padded[rank * share : (rank + 1) * share], self.dtype)
        dist.all_gather_into_tensor(padded, mine.contiguous())
        return padded[: len(moments)].float().unbind()

    def _orthogonal_in_turn(self, moments: Sequence[Tensor]) -> list[Tensor]:
        """Orthogonalise spread matrices, as many at a time as there are processes.

        A shard holds some rows of a matrix, but singular vectors belong to the whole. Of each few
        matrices that are gathered a process does one, and keeps its own rows of all.

        Shape: each (R, C), spread by rows, as is what is returned.
        """
        size, rank = dist.get_world_size(), dist.get_rank()
        updates: list[Tensor] = []
        for start in range(0, len(moments), size):
            few = moments[start : start + size]
            mine = torch.zeros(1, *few[0].shape, dtype=self.dtype, device=few[0].device)
            for index, moment in enumerate(few):
                gathered = whole(moment)
                if index == rank:
                    mine = orthogonalise(gathered[None], self.dtype)
            every = mine.new_empty((size, *mine.shape[1:]))
            dist.all_gather_into_tensor(every, mine.contiguous())
            for update, moment in zip(every, few, strict=False):
                updates.append(distribution.shard_like(update.float(), moment))
        return updates


def _cautious_step(
    parameter: nn.Parameter, update: Tensor, lr: float, scale: float, weight_decay: float
) -> None:
    """Move a parameter along the update, with weight decay only where both point the same way.

    Shape: `update` has the shape of `parameter`.
    """
    if weight_decay:
        # The update is subtracted. Where it has the sign of the weight it shrinks the weight
        # already, and decay helps; elsewhere the gradient wants the weight larger, and decay
        # would work against it.
        agrees = (update * parameter) > 0
        parameter.sub_(parameter * agrees, alpha=lr * weight_decay)
    parameter.sub_(update, alpha=lr * scale)


class OptimizerSet:
    """Several optimizers stepped as one; their state is named after the parameters."""

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], named: Iterable[tuple[str, nn.Parameter]]
    ) -> None:
        self.optimizers = list(optimizers)
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in named}
        self._peaks = [[g["lr"] for g in o.param_groups] for o in self.optimizers]

    def step(self, lr_share: float, momentum: float) -> None:
        """Take one step at a share of the peak rates; the decay fades with the same share."""
        for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * lr_share
                if isinstance(optimizer, Muon):
                    group["momentum"] = momentum
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state as `kind/parameter name` -> tensor; the tensors are not copied.

        Shape: that of the parameter, or () for a step counter.
        """
        tensors = {}
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                for kind, value in state.items():
                    if value is not None:
                        tensors[f"{kind}/{self._names[parameter]}"] = torch.as_tensor(value)
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `state_tensors` returned.

        Shape: whole tensors; they are sharded here where the parameters are.
        """
        kinds: dict[str, list[str]] = defaultdict(list)
        for key in tensors:
            kind, _, name = key.partition("/")
            kinds[name].append(kind)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    state: dict[str, Any] = optimizer.state[parameter]
                    name = self._names[parameter]
                    for kind in kinds.get(name, ()):
                        state[kind] = distribution.place_like(parameter)(tensors[f"{kind}/{name}"])


def build_optimizers(
    model: nn.Module, train: TrainConfig, recipe: Recipe, *, dtype: torch.dtype
) -> OptimizerSet:
    """Sort the parameters into groups and build the optimizers of a run.

    The settings say which optimizer and its constants, the recipe the peak rates; `dtype` is the
    precision of Muon's matrix products.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices, tables, heads, gains = [], [], [], []
    for name, parameter in named:
        if parameter.ndim < 2:
            gains.append(parameter)
        elif "embed_tokens" in name:
            tables.append(parameter)
        elif "lm_head" in name:
            heads.append(parameter)
        else:
            matrices.append(parameter)
    if train.optimizer in ("auto", "muon"):
        muon = Muon(
            matrices,
            lr=recipe.learning_rate,
            momentum=train.momentum,
            weight_decay=recipe.weight_decay,
            dtype=dtype,
        )
        groups = [
            {"params": tables, "lr": recipe.embedding_lr},
            {"params": heads, "lr": recipe.head_lr},
            {"params": gains, "lr": recipe.gain_lr},
        ]
        rest = _adam(torch.optim.AdamW, [g for g in groups if g["params"]], train, recipe)
        return OptimizerSet([muon, rest], named)
    groups = [
        {"params": matrices + tables + heads, "weight_decay": recipe.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    if train.optimizer == "sgd":
        sgd = torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=train.momentum, nesterov=train.momentum > 0
        )
        return OptimizerSet([sgd], named)
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return OptimizerSet([_adam(kind, [g for g in groups if g["params"]], train, recipe)], named)


def _adam(
    kind: type[torch.optim.Adam], groups: list[dict[str, Any]], train: TrainConfig, recipe: Recipe
) -> torch.optim.Optimizer:
    sharded = any(is_spread(p) for group in groups for p in group["params"])
    return kind(
        groups,
        lr=recipe.learning_rate,
        betas=(train.beta1, train.beta2),
        eps=1e-10,
        weight_decay=0.0,
        fused=not sharded,
        # All shards at once (foreach) would need temporaries as large as all of them.
        foreach=False if sharded else None,
    )
