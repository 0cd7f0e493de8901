"""Several processes started by torchrun act as one: who am I, sums, gathered rows; one process alone needs none."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce as differentiable_all_reduce


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
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
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


class HostGroup:
    """The processes as they talk over the host, so that their GPUs have nothing to wait for; made by all at once."""

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo") if world_size() > 1 else None

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process; all must ask."""
        if self._group is None:
            return flag
        found = torch.tensor(int(flag))
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._group)
        return bool(found)


def own_part(rows: torch.Tensor) -> torch.Tensor:
    """This process's share of the first axis, in order; the shares differ by one row at most."""
    return rows.tensor_split(world_size())[rank()]


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def gather_rows(rows: torch.Tensor, total: int) -> torch.Tensor:
    """The inverse of own_part for a tensor on the CPU: every process gets all `total` rows."""
    if world_size() == 1:
        return rows
    parts: list[torch.Tensor] = [None] * world_size()
    dist.all_gather_object(parts, rows)
    gathered = torch.cat(parts)
    assert len(gathered) == total
    return gathered


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the whole batch, whichever processes hold its parts; on a CPU too.

    Of timm's kind, which drops out and activates after it, these parts follow.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
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
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def share_batch_norm(model: nn.Module) -> None:
    """Turns every BatchNorm2d of `model`, timm's kinds too, into a SharedBatchNorm; weights and statistics are kept."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, SharedBatchNorm):
            module.__class__ = shared_kind(type(module))


@functools.cache
def shared_kind(kind: type[nn.BatchNorm2d]) -> type[SharedBatchNorm]:
    return type(f"Shared{kind.__name__}", (SharedBatchNorm, kind), {})
