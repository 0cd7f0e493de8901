"""Learning-rate schedules: the rate at any point of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from recipes import LearningRate

BETTER: dict[str, Callable] = {  # by the metric on val that chooses the epoch
    "loss": min,
    "objective": min,
    "accuracy": max,
    "macro_f1": max,
}


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 for a progress of 0..1 (Loshchilov & Hutter, SGDR, 2017, equation 5, no restarts)."""
    return (1 + math.cos(math.pi * progress)) / 2


def one_cycle(progress: float) -> float:
    """A straight line from 1 to 0 for a progress of 0..1 (Smith & Topin, Super-Convergence, 2018)."""
    return 1 - progress


def warm_restarts(epoch: float, warmup_epochs: float, first_cycle: int) -> float:
    """Half cosines from 1 to 0 after the warm-up, each twice as long as the one before (SGDR, equation 5)."""
    start, length = warmup_epochs, first_cycle
    while epoch >= start + length:
        start, length = start + length, 2 * length
    return (1 + math.cos(math.pi * (epoch - start) / length)) / 2


def finished_cycle(epoch: int, warmup_epochs: float, first_cycle: int) -> int:
    """Number, from 1, of the cycle of warm_restarts that ends in or with `epoch`; 0: none does."""
    end, length, cycle = warmup_epochs, first_cycle, 0
    while math.floor(end) < epoch:
        end, length, cycle = end + length, 2 * length, cycle + 1
    return cycle if math.floor(end) == epoch else 0


def step(epoch: float, step_epochs: int, drop: float) -> float:
    """The factor `drop` to the power of the steps that lie before `epoch`, counted from the end of the warm-up."""
    return drop ** (epoch // step_epochs)


def plateau(values: Sequence[float], better: Callable, patience: int, drop: float) -> float:
    """A drop after each `patience` epochs without a better one of the `values`, one per epoch; better: min or max."""
    factor, best, waited = 1.0, None, 0
    for value in values:
        improved = best is None or (value != best and better(value, best) == value)
        best, waited = (value, 0) if improved else (best, waited + 1)
        if waited > patience:
            factor, waited = factor * drop, 0
    return factor


@dataclass(frozen=True)
class Point:
    """A point of a training after its warm-up."""

    rate: LearningRate
    epoch: float  # epochs since the beginning, a fraction within one
    progress: float  # 0..1 from the end of the warm-up to the last epoch
    values: Sequence[float]  # the metric that chooses the epoch, after each epoch so far
    better: Callable  # min or max, whichever is the better of two values


SCHEDULES: dict[str, Callable[[Point], float]] = {  # 0..1, part of the range between min_lr and lr
    "cosine": lambda at: cosine(at.progress),
    "one_cycle": lambda at: one_cycle(at.progress),
    "warm_restarts": lambda at: warm_restarts(at.epoch, at.rate.warmup_epochs, at.rate.restart_epochs),
    "step": lambda at: step(at.epoch - at.rate.warmup_epochs, at.rate.step_epochs, at.rate.drop),
    "plateau": lambda at: plateau(at.values, at.better, at.rate.plateau_patience, at.rate.drop),
    "constant": lambda _: 1.0,
}


def learning_rate(
    rate: LearningRate, epoch: float, epochs: int, values: Sequence[float] = (), better: Callable = max
) -> float:
    """The rate after `epoch` of `epochs` epochs (a fraction within one): a linear warm-up, then the schedule.

    With `per_epoch` it is that at the beginning of the epoch, as of torch's schedulers that step once an epoch.
    values: the metric that chooses the epoch, after each epoch so far; better: min or max, the better of two values.
    """
    epoch = math.floor(epoch) if rate.per_epoch else epoch
    if epoch < rate.warmup_epochs:
        return rate.lr * max(epoch / rate.warmup_epochs, 0.01)
    length = max(epochs - rate.warmup_epochs, 1e-9)
    progress = min((epoch - rate.warmup_epochs) / length, 1)
    part = SCHEDULES[rate.schedule](Point(rate, epoch, progress, values, better))
    return rate.min_lr + (rate.lr - rate.min_lr) * part


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of each parameter group to its own share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
