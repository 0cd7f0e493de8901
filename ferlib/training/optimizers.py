"""How weights move: optimisers, sharpness-aware steps, the moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Groups = list[dict[str, Any]]  # parameter groups, as torch's optimisers take them
Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def parameter_groups(
    backbone: nn.Module,
    heads: nn.Module,
    *,
    lr: float,
    backbone_lr: float | None = None,
    layer_decay: float = 1.0,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Groups:
    """Parts apart whose rates differ (`scale`: the share of the rate); kernels decay, and all others with `decay_all`.

    layer_decay: factor between the rates of one layer of the backbone and the next; the last one has `backbone_lr`
    (Clark et al., "ELECTRA" (2020), section 3.1, after Howard & Ruder, 2018).
    """
    share, layers = 1.0 if backbone_lr is None else backbone_lr / lr, layers_of(backbone)
    scales = [share * layer_decay ** (len(layers) - number) for number in range(1, len(layers) + 1)]
    parts: dict[float, list[nn.Parameter]] = {}
    for scale, parameters in (*zip(scales, layers, strict=True), (1.0, list(heads.parameters()))):
        parts.setdefault(scale, []).extend(parameters)
    groups = []
    for scale, parameters in parts.items():
        decaying = [parameter for parameter in parameters if decay_all or parameter.ndim > 1]
        others = [] if decay_all else [parameter for parameter in parameters if parameter.ndim <= 1]
        groups += [
            {"params": chosen, "weight_decay": decay, "scale": scale}
            for chosen, decay in ((decaying, weight_decay), (others, 0.0))
            if chosen
        ]
    return groups


def layers_of(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each layer, from the input on: of each module at the top, and of each item of those that hold
    several, such as `stages.0` and `stages.1`. A single module at the top whose parts have names is left out of these.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    parameters = [(name.split("."), parameter) for name, parameter in backbone.named_parameters()]
    parts = {(names[0], names[1] if len(names) > 1 else "0") for names, _ in parameters}
    single = len({first for first, _ in parts}) == 1 and not any(second.isdigit() for _, second in parts)
    for names, parameter in parameters:
        first, *rest = names[1:] if single else names
        layers.setdefault(f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first, []).append(parameter)
    return list(layers.values())


def muon(groups: Groups, lr: float, _momentum: float, dtype: torch.dtype) -> torch.optim.Optimizer:
    """timm's Muon: orthogonalised momentum for the kernels of convolutions, AdamW for all other parameters.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with its coefficients. An update
    has the size that AdamW's would have (Liu et al., "Muon is Scalable for LLM Training", 2025, equation 4), so that
    one rate serves both. Where the run is not in bfloat16, momentum is orthogonalised in float32.
    """
    from timm.optim import Muon  # only here: importing timm takes two seconds

    from ferlib.training.muon import Float32Muon

    adamw = {"use_muon": False, "nesterov": False, "eps": 1e-8}
    parts = []
    for group in groups:
        kernels = [parameter for parameter in group["params"] if parameter.ndim == 4]
        others = [parameter for parameter in group["params"] if parameter.ndim != 4]
        parts += [{**group, "params": kernels, "use_muon": True}] if kernels else []
        parts += [{**group, "params": others, **adamw}] if others else []
    kind = Muon if dtype == torch.bfloat16 else Float32Muon
    return kind(parts, lr=lr, momentum=0.95, nesterov=True, ns_coefficients="original", betas=(0.9, 0.99))


OPTIMIZERS: dict[str, Callable[[Groups, float, float, torch.dtype], torch.optim.Optimizer]] = {
    # groups, rate, momentum of SGD, precision of the run
    "sgd": lambda groups, lr, momentum, _: torch.optim.SGD(groups, lr, momentum, nesterov=momentum > 0, fused=True),
    "adam": lambda groups, lr, *_: torch.optim.Adam(groups, lr, fused=True),
    "adamw": lambda groups, lr, *_: torch.optim.AdamW(groups, lr, fused=True),
    "radam": lambda groups, lr, *_: torch.optim.RAdam(groups, lr, decoupled_weight_decay=True),
    "muon": muon,
}


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
