"""How weights move: optimisers, sharpness-aware steps, the moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Groups = list[dict[str, Any]]  # parameter groups, as torch's optimisers take them
Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]

OPTIMIZERS: dict[str, Callable[[Groups, float, float], torch.optim.Optimizer]] = {  # groups, rate, momentum of SGD
    "sgd": lambda groups, lr, momentum: torch.optim.SGD(groups, lr, momentum, nesterov=momentum > 0, fused=True),
    "adam": lambda groups, lr, _: torch.optim.Adam(groups, lr, fused=True),
    "adamw": lambda groups, lr, _: torch.optim.AdamW(groups, lr, fused=True),
    "radam": lambda groups, lr, _: torch.optim.RAdam(groups, lr, decoupled_weight_decay=True),
    "muon": lambda groups, lr, _: Muon(groups, lr),
}


def parameter_groups(
    backbone: nn.Module, head: nn.Module, *, lr: float, backbone_lr: float | None = None, weight_decay: float = 0.0
) -> Groups:
    """Backbone and head apart (`scale`: the group's share of the rate); decay for kernels, not for biases and norms."""
    groups = []
    for part, scale in ((backbone, 1.0 if backbone_lr is None else backbone_lr / lr), (head, 1.0)):
        kernels = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in part.parameters() if parameter.ndim <= 1]
        groups += [
            {"params": parameters, "weight_decay": decay, "scale": scale}
            for parameters, decay in ((kernels, weight_decay), (others, 0.0))
            if parameters
        ]
    return groups


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the kernels of convolutions, AdamW for all other parameters.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). An update has the size that AdamW's
    would have (Liu et al., "Muon is Scalable for LLM Training", 2025, equation 4), so that one rate serves both.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float = 0.95, betas: tuple = (0.9, 0.99)):
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._kernel_update if parameter.ndim == 4 else self._adam_update
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update(parameter, group, self.state[parameter]), alpha=group["lr"])

    def _kernel_update(self, kernel: torch.Tensor, group: dict[str, Any], state: dict[str, Any]) -> torch.Tensor:
        """Nesterov's momentum as a matrix of one row per output channel, its singular values drawn to 1."""
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        state["momentum"].lerp_(kernel.grad, 1 - group["momentum"])
        direction = torch.lerp(kernel.grad, state["momentum"], group["momentum"]).movedim(1, -1)
        matrix = orthogonalized(direction.flatten(1))
        return 0.2 * max(matrix.shape) ** 0.5 * matrix.view(direction.shape).movedim(-1, 1)

    def _adam_update(self, values: torch.Tensor, group: dict[str, Any], state: dict[str, Any]) -> torch.Tensor:
        """Kingma & Ba, "Adam" (2015), algorithm 1."""
        if not state:
            state.update(steps=0, mean=torch.zeros_like(values), square=torch.zeros_like(values))
        slow, slower = group["betas"]
        state["steps"] += 1
        mean = state["mean"].lerp_(values.grad, 1 - slow) / (1 - slow ** state["steps"])
        square = state["square"].lerp_(values.grad**2, 1 - slower) / (1 - slower ** state["steps"])
        return mean / (square.sqrt() + 1e-8)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with its singular values drawn to 0.7..1.2, by Newton–Schulz steps in bfloat16 (Jordan et al.)."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = (wide / (wide.norm() + 1e-7)).bfloat16()
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).to(matrix.dtype)


@contextlib.contextmanager
def perturbed_weights(model: nn.Module, rho: float) -> Iterator[None]:
    """The weights moved by ρ·g/‖g‖ for the block, and back afterwards; batch-norm statistics do not change in it.

    Foret et al., "Sharpness-Aware Minimization" (2021), equation 2: the gradient taken in the block is the one to use.
    """
    parameters: list[torch.Tensor] = [parameter for parameter in model.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    before = [parameter.detach().clone() for parameter in parameters]
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [module.momentum for module in norms]
    with torch.no_grad():
        torch._foreach_add_(parameters, list(torch._foreach_mul(gradients, rho / (norm + 1e-12))))
    for module in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        with torch.no_grad():
            torch._foreach_copy_(parameters, before)


def ema_update(decay: float) -> Callable[[Tensors, Tensors, torch.Tensor | int], None]:
    """For AveragedModel: average ← d·average + (1 − d)·weights with d = min(decay, (1 + n) / (10 + n)) at update n."""

    @torch.no_grad()
    def update(averages: Tensors, weights: Tensors, updates: torch.Tensor | int) -> None:
        if averages[0].is_floating_point():
            count = int(updates)
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + count) / (10 + count)))
        else:
            torch._foreach_copy_(averages, weights)

    return update
