"""Several processes training one model: who is who, how the model is spread, what is agreed.

Started by `torchrun`; alone, every call here is free. Two ways to spread: `ddp` (every process
holds the model, gradients are averaged) and `fsdp` (FSDP2: every process holds a shard of each
parameter). Left out: who reads which rows of a batch (`learner`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from triptych.config import environment
from triptych.lm.model.transformer import Transformer

T = TypeVar("T")
LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Tell whether this process writes the files and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def tell(self, message: T) -> T:
        """Hear what the leading process says."""
        said = [message]
        if self.size > 1:
            dist.broadcast_object_list(said, src=0)
        return said[0]


def join(device: str) -> World:
    """Join the processes that torchrun started, or stand alone."""
    size = int(environment.get("WORLD_SIZE") or 1)
    if size == 1:
        return World()
    if not dist.is_initialized():
        backend = "nccl" if device.startswith("cuda") else "gloo"
        if device.startswith("cuda"):
            torch.cuda.set_device(int(environment.get("LOCAL_RANK") or 0))
        dist.init_process_group(backend, timeout=timedelta(hours=12))
    return World(rank=dist.get_rank(), size=size)


def leave() -> None:
    """Part from the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class _Loss(nn.Module):
    """Make the loss the forward pass, which is what data parallelism and compilation wrap."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.inner = model

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return self.inner.loss(ids_BT, targets_BT)


def spread(
    model: Transformer, world: World, parallel: str, *, compiled: bool
) -> tuple[LossFunction, Callable[[bool], None]]:
    """Spread a model over the processes.

    Returns: the loss function, and a switch that says whether the next backward pass ends a
        batch and so exchanges gradients.
    """

    def always(last: bool) -> None:
        pass

    if world.size == 1:
        return torch.compile(model.loss) if compiled else model.loss, always
    if parallel == "fsdp":
        # A fourth of a run's starting time, and only this needs it.
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        for block in model.model.layers:
            fully_shard(block)
        fully_shard(model, reshard_after_forward=False)
        register_fsdp_forward_method(model, "loss")
        assert isinstance(model, FSDPModule)
        return model.loss, model.set_requires_gradient_sync
    from torch.nn.parallel import DistributedDataParallel

    inner = _Loss(model)
    wrapped = DistributedDataParallel(
        torch.compile(inner) if compiled else inner, gradient_as_bucket_view=True
    )

    def switch(last: bool) -> None:
        wrapped.require_backward_grad_sync = last

    return wrapped, switch


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether every process holds a part of this tensor only."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; every process must call it. Others are returned as they are."""
    if not is_sharded(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


def sharded_like(value: Tensor, other: Tensor) -> Tensor:
    """Keep this process's part of a whole tensor, cut as another one is; no words are exchanged."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(value, other.device_mesh, other.placements, src_data_rank=None)


def placed_like(parameter: Tensor) -> Callable[[Tensor], Tensor]:
    """Give a function that copies a whole tensor to where a parameter lies, sharded as it is."""

    def place(value: Tensor) -> Tensor:
        if value.shape != parameter.shape:  # a step counter
            return value.clone()
        value = value.to(parameter.device)
        return sharded_like(value, parameter) if is_sharded(parameter) else value.clone()

    return place
