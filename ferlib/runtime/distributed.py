"""Several processes started by torchrun as one: rank, sums, gathered rows, batch norm; one process alone needs none."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce
from torch.distributed.rendezvous import rendezvous

from ferlib.runtime.errors import UserError

Value = TypeVar("Value")
PATIENCE, PAUSE = 1800.0, 0.05  # seconds to wait for a process to start, and between two looks for it
_stores: list[dist.Store] = []  # of the processes, while they are joined
_numbers = itertools.count()  # of the parts of the store


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Joins the processes of torchrun for the block (nccl on CUDA, else gloo); nothing without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, own_rank, size = next(rendezvous("env://"))
    store = fresh_part(store, own_rank, size)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=size)
    _stores.append(store)
    try:
        yield
    finally:
        _stores.clear()
        dist.destroy_process_group()


def barrier() -> None:
    """Waits until every process has come here."""
    if world_size() > 1:
        dist.barrier()


def from_first(value: Value) -> Value:
    """The value of the first process, in every process."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def shared_store() -> dist.Store:
    """A store of keys and bytes that all processes see; every process asks for one at the same point."""
    return dist.PrefixStore(f"part {next(_numbers)}", _stores[-1]) if world_size() > 1 else dist.HashStore()


def fresh_part(store: dist.Store, own_rank: int, size: int) -> dist.Store:
    """The part of torchrun's store that belongs to these processes, under a name that the first one chooses.

    torchrun keeps the store when it starts processes again (--max-restarts), and with it the addresses of the dead
    ones: gloo would call them. So the name is told only in answer to a number that its reader has just drawn.
    """
    own, others, deadline = uuid.uuid4().hex, range(1, size), time.monotonic() + PATIENCE
    if own_rank:
        store.set(f"asks/{own_rank}", own)
        name = store.get(f"answer/{own}").decode()
        store.set(f"joined/{name}/{own_rank}", "yes")
        return dist.PrefixStore(name, store)
    while not all(store.check([f"joined/{own}/{other}"]) for other in others):
        if time.monotonic() > deadline:
            raise UserError("a process of torchrun did not start; look at its output, then run the command again")
        for other in others:
            if store.check([f"asks/{other}"]):  # of this process, or of one that is dead
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", own)
        time.sleep(PAUSE)
    return dist.PrefixStore(own, store)


def check_equal(facts: Mapping[str, object]) -> None:
    """UserError unless the processes, which may run on several machines, agree in what `facts` names."""
    if world_size() == 1:
        return
    found: list[Mapping[str, object]] = [{}] * world_size()
    dist.all_gather_object(found, facts)
    for name, value in found[0].items():
        if other := [number for number, each in enumerate(found) if each[name] != value]:
            place = f"in process {other[0]} differs from that in process 0"
            raise UserError(f"{name} {place}; every machine needs the same")


class HostGroup:
    """Communication of the processes over the host, without their GPUs; every process makes one at the same point."""

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo") if world_size() > 1 else None

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process; every process must call it."""
        if self._group is None:
            return flag
        found = torch.tensor(int(flag))
        dist.all_reduce(found, dist.ReduceOp.MAX, group=cast(dist.ProcessGroup, self._group))
        return bool(found)


def own_part(rows: torch.Tensor) -> torch.Tensor:
    """This process's share of the first axis, in order; the shares differ by one row at most."""
    return rows.tensor_split(world_size())[rank()]


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of each process's `values`, in place and in every process."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def gather_rows(rows: torch.Tensor, total: int) -> torch.Tensor:
    """The inverse of own_part for a tensor on the CPU: every process gets all `total` rows."""
    if world_size() == 1:
        return rows
    parts = [torch.empty(0)] * world_size()
    dist.all_gather_object(parts, rows)
    gathered = torch.cat(parts)
    assert len(gathered) == total
    return gathered


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Gives every BatchNorm2d of `model`, timm's kinds too, the statistics of the whole batch over all processes.

    On GPUs each becomes torch's SyncBatchNorm; processes on the CPU, where torch has none, get a SharedBatchNorm.
    Weights and statistics are kept.
    """
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, SharedBatchNorm):
            module.__class__ = shared_kind(type(module))  # type: ignore[arg-type]  # a class is hashable


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the whole batch, whichever processes hold its parts, for processes on the CPU.

    torch.nn.SyncBatchNorm refuses tensors on the CPU. Of timm's kind, which drops out and activates after it, these
    parts follow.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features N×C×H×W of this process, normalised over the batches of all."""
        if not self.training or world_size() == 1:
            return super().forward(features)
        values = features.float()
        count = values.numel() / values.shape[1] * world_size()
        moments = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        mean, square = differentiable_all_reduce(moments) / count
        variance = (square - mean.square()).clamp(min=0)
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        outputs = (values * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(features.dtype)
        for following in ("drop", "act"):
            outputs = getattr(self, following, nn.Identity())(outputs)
        return outputs

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


@functools.cache
def shared_kind(kind: type[nn.BatchNorm2d]) -> type[SharedBatchNorm]:
    """A SharedBatchNorm that has the attributes of another kind of batch norm."""
    return type(f"Shared{kind.__name__}", (SharedBatchNorm, kind), {})
