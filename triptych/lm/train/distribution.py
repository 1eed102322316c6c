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
from triptych.lm.model.tensors import is_spread
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
    model: Transformer, world: World, parallel: str, *, compiled: bool, dtype: torch.dtype
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
        from torch.distributed.fsdp import (
            FSDPModule,
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )  # fmt: skip

        # What is gathered travels and lies in the precision of the products, which is what each
        # map would cast it to; gradients are added up in float32.
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        # One group per block: its parameters are gathered just before the block runs and freed
        # after it, so at most one block is whole at a time. What is left (embedding, head, last
        # norm) is the root group; it is needed again at the very start of the backward pass, so
        # freeing it after the forward pass would only gather it twice.
        for block in model.model.layers:
            fully_shard(block, mp_policy=policy)
        fully_shard(model, mp_policy=policy, reshard_after_forward=False)
        # Gathering hooks run on `forward` alone; training and evaluation call others.
        for name in ("loss", "token_losses"):
            register_fsdp_forward_method(model, name)
        assert isinstance(model, FSDPModule)
        # Gradients are reduced after every part of an accumulated batch: whole gradients that wait
        # for the last part would take as much memory as the whole model.
        return model.loss, always_synced
    from torch.nn.parallel import DistributedDataParallel

    inner = _Loss(model)
    wrapped = DistributedDataParallel(
        torch.compile(inner) if compiled else inner, gradient_as_bucket_view=True
    )

    def set_grad_sync(last: bool) -> None:
        wrapped.require_backward_grad_sync = last

    return wrapped, set_grad_sync


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a spread tensor that this process holds, as a view; any other as it is.

    Shape: that of the part.
    """
    if not is_spread(tensor):
        return tensor
    part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return part


def reshard(model: Transformer) -> None:
    """Free what fsdp still holds whole after a forward pass."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


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
        return shard_like(value, parameter) if is_spread(parameter) else value.clone()

    return place
