"""How weights move: optimisers, learning-rate schedules, sharpness-aware steps, the average of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from config import Recipe

OPTIMIZERS = {
    "sgd": lambda groups, recipe: torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.momentum > 0),
    "adam": lambda groups, recipe: torch.optim.Adam(groups, recipe.lr),
    "adamw": lambda groups, recipe: torch.optim.AdamW(groups, recipe.lr),
    "radam": lambda groups, recipe: torch.optim.RAdam(groups, recipe.lr, decoupled_weight_decay=True),
}
BETTER = {"loss": min, "accuracy": max, "macro_f1": max}  # of the values that a recipe's monitor can watch


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Backbone and head apart (`scale`: the group's share of the rate); decay for kernels, not for biases and norms."""
    backbone_scale = 1.0 if recipe.backbone_lr is None else recipe.backbone_lr / recipe.lr
    groups = []
    for part, scale in ((model.backbone, backbone_scale), (model.head, 1.0)):
        kernels = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in part.parameters() if parameter.ndim <= 1]
        groups += [
            {"params": parameters, "weight_decay": decay, "scale": scale}
            for parameters, decay in ((kernels, recipe.weight_decay), (others, 0.0))
            if parameters
        ]
    return groups


# ── learning rate ────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── beyond the gradient ──────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def uphill(model: nn.Module, rho: float) -> Iterator[None]:
    """The weights moved by ρ·g/‖g‖ for the block, and back afterwards; batch-norm statistics stand still meanwhile.

    Foret et al., "Sharpness-Aware Minimization" (2021), equation 2: the gradient taken in the block is the one to use.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters]
    norm = torch.nn.utils.get_total_norm(gradients)
    before = [parameter.detach().clone() for parameter in parameters]
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in norms]
    with torch.no_grad():
        torch._foreach_add_(parameters, torch._foreach_mul(gradients, rho / (norm + 1e-12)))
    for module in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        with torch.no_grad():
            torch._foreach_copy_(parameters, before)


def ema_function(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor | int], None]:
    """average ← average + (1 − d)(weights − average) with d = min(decay, (1 + n) / (10 + n)) at update n."""

    @torch.no_grad()
    def update(averages: list[torch.Tensor], weights: list[torch.Tensor], updates: torch.Tensor | int) -> None:
        if averages[0].is_floating_point():
            count = int(updates)
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + count) / (10 + count)))
        else:
            torch._foreach_copy_(averages, weights)

    return update
