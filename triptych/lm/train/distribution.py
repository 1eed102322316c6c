"""Several processes training one model: ranks, how the model is parallelized, collectives.

The processes are started by `torchrun`; a single process pays nothing for any call here. Two
kinds of parallelism: `ddp` (each process holds the whole model, gradients are averaged) and
`fsdp` (FSDP2: each process holds a shard of each parameter). Left out: which rows of a batch a
process reads (`train_step`).
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
# One evaluation of the whole split, or one checkpoint, runs on rank 0 while the others wait in a
# collective; the default of 10 minutes would end a healthy run.
_TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True, kw_only=True)
class World:
    """The rank of this process and the number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Return whether this is rank 0, the only one that writes files and prints."""
        return self.rank == 0

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place.

        Shape: any, the same on every process.
        """
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on every process; it must be picklable."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]


def join(device: str) -> World:
    """Join the process group that torchrun started; without torchrun, return a world of one."""
    size = int(environment.get("WORLD_SIZE") or 1)
    if size == 1:
        return World()
    if not dist.is_initialized():
        backend = "nccl" if device.startswith("cuda") else "gloo"
        if device.startswith("cuda"):
            torch.cuda.set_device(int(environment.get("LOCAL_RANK") or 0))
        dist.init_process_group(backend, timeout=_TIMEOUT)
    return World(rank=dist.get_rank(), size=size)


def leave() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class _Loss(nn.Module):
    """Make the loss the forward pass, which is what DDP and torch.compile wrap."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.inner = model

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return self.inner.loss(ids_BT, targets_BT)


def parallelize(
    model: Transformer, world: World, parallel: str, *, compiled: bool
) -> tuple[LossFunction, Callable[[bool], None]]:
    """Prepare a model for training on all processes; with `fsdp`, its parameters become shards.

    Returns: the loss function of (ids_BT, targets_BT), and `set_grad_sync`: call it with False
        before each backward pass of an accumulated batch except the last.
    """

    def always_synced(last: bool) -> None:
        pass

    if world.size == 1:
        return torch.compile(model.loss) if compiled else model.loss, always_synced
    if parallel == "fsdp":
        # Importing FSDP takes a fourth of a run's starting time, so only fsdp pays for it.
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        # One group per block: its parameters are gathered just before the block runs and freed
        # after it, so at most one block is whole at a time. What is left (embedding, head, last
        # norm) is the root group; it is needed again at the very start of the backward pass, so
        # freeing it after the forward pass would only gather it twice.
        for block in model.model.layers:
            fully_shard(block)
        fully_shard(model, reshard_after_forward=False)
        # Gathering hooks run on `forward` alone; training calls `loss`.
        register_fsdp_forward_method(model, "loss")
        assert isinstance(model, FSDPModule)
        return model.loss, model.set_requires_gradient_sync
    from torch.nn.parallel import DistributedDataParallel

    inner = _Loss(model)
    wrapped = DistributedDataParallel(
        torch.compile(inner) if compiled else inner, gradient_as_bucket_view=True
    )

    def set_grad_sync(last: bool) -> None:
        wrapped.require_backward_grad_sync = last

    return wrapped, set_grad_sync


def is_sharded(tensor: Tensor) -> bool:
    """Return whether each process holds only a part of this tensor (a DTensor).

    Shape: any.
    """
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; return any other as it is.

    A collective: every process must call it, in the same order, also those that drop the result.

    Shape: the shape of the whole tensor.
    """
    if not is_sharded(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


def shard_like(value: Tensor, other: Tensor) -> Tensor:
    """Keep this process's part of a whole tensor, sharded as another one is; sends nothing.

    Shape: `value` has the whole shape of `other`.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    # Every process has the whole value already (from a checkpoint, or computed from gathered
    # moments), so rank 0 need not send it: src_data_rank=None cuts locally.
    return distribute_tensor(value, other.device_mesh, other.placements, src_data_rank=None)


def place_like(parameter: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that copies a whole tensor to a parameter's device, sharded as it is.

    Shape: a tensor of another shape than the parameter (a step counter) is only copied.
    """

    def place(value: Tensor) -> Tensor:
        """Shape: any, to the same."""
        if value.shape != parameter.shape:
            return value.clone()
        value = value.to(parameter.device)
        return shard_like(value, parameter) if is_sharded(parameter) else value.clone()

    return place
