"""Learning-rate schedules: the rate at any point of a training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from recipes import Recipe

BETTER = {"loss": min, "accuracy": max, "macro_f1": max}  # of the values that a recipe's monitor can watch


def cosine(recipe: Recipe, epoch: float, epochs: list[dict]) -> float:
    """Half a cosine (Loshchilov & Hutter, SGDR, 2017, equation 5 without restarts)."""
    return (1 + math.cos(math.pi * fall(recipe, epoch))) / 2


def one_cycle(recipe: Recipe, epoch: float, epochs: list[dict]) -> float:
    """A straight fall after the warm-up (Smith & Topin, Super-Convergence, 2018)."""
    return 1 - fall(recipe, epoch)


def warm_restarts(recipe: Recipe, epoch: float, epochs: list[dict]) -> float:
    """Half cosines, each twice as long as the one before (SGDR, equation 5)."""
    start, length = recipe.warmup_epochs, recipe.restart_epochs
    while epoch >= start + length:
        start, length = start + length, 2 * length
    return (1 + math.cos(math.pi * (epoch - start) / length)) / 2


def finished_cycle(recipe: Recipe, epoch: int) -> int:
    """Number, from 1, of the cycle of warm_restarts that ends in or with `epoch`; 0: none does."""
    end, length, cycle = recipe.warmup_epochs, recipe.restart_epochs, 0
    while math.floor(end) < epoch:
        end, length, cycle = end + length, 2 * length, cycle + 1
    return cycle if math.floor(end) == epoch else 0


def step(recipe: Recipe, epoch: float, epochs: list[dict]) -> float:
    return recipe.drop ** ((epoch - recipe.warmup_epochs) // recipe.step_epochs)


def plateau(recipe: Recipe, epoch: float, epochs: list[dict]) -> float:
    """A drop after each `plateau_patience` epochs without a better value of the monitor on val."""
    share, best, waited = 1.0, None, 0
    for value in (past[f"val_{recipe.monitor}"] for past in epochs):
        better = best is None or (value != best and BETTER[recipe.monitor](value, best) == value)
        best, waited = (value, 0) if better else (best, waited + 1)
        if waited > recipe.plateau_patience:
            share, waited = share * recipe.drop, 0
    return share


def constant(recipe: Recipe, epoch: float, epochs: list[dict]) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[Recipe, float, list[dict]], float]] = {  # share of the rate between min_lr and lr
    "cosine": cosine,
    "one_cycle": one_cycle,
    "warm_restarts": warm_restarts,
    "step": step,
    "plateau": plateau,
    "constant": constant,
}


def fall(recipe: Recipe, epoch: float) -> float:
    """How far down the slope after the warm-up, 0 to 1."""
    length = max((recipe.t_max or recipe.epochs) - recipe.warmup_epochs, 1e-9)
    return min((epoch - recipe.warmup_epochs) / length, 1)


def learning_rate(recipe: Recipe, epoch: float, epochs: list[dict]) -> float:
    """The rate after `epoch` epochs (a fraction within one) and the history `epochs`: warm-up, then the schedule."""
    if epoch < recipe.warmup_epochs:
        return recipe.lr * max(epoch / recipe.warmup_epochs, 0.01)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * SCHEDULES[recipe.schedule](recipe, epoch, epochs)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
