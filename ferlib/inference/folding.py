"""A trained network made ready for many passes: batch norms folded, weights cast, strided depthwise layers sped up."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ferlib.inference.fast_gradients import speed_up_gradients


@torch.no_grad()
def prepare(classifier: nn.Module, images: torch.Tensor, dtype: torch.dtype) -> nn.Module:
    """A copy in evaluation mode that computes the same logits faster.

    images: a batch N×C×H×W, to find which convolution feeds which batch norm. Every such pair becomes one convolution
    (Jacob et al., "Quantization and training of neural networks", 2018, section 3.2); the modules keep their names, so
    hooks find them. The weights of convolutions and linear layers are cast to `dtype` once instead of at every pass.
    On the CPU some layers get faster gradients.
    """
    folded = frozen_copy(classifier)
    expected = folded(images)
    fold(folded, images)
    if not torch.allclose(folded(images), expected, rtol=0, atol=1e-2 * expected.abs().max().item()):
        folded = frozen_copy(classifier)  # a convolution's output went elsewhere too
    for module in folded.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    if images.device.type == "cpu":
        speed_up_gradients(folded)
    return folded.to(memory_format=torch.channels_last)


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode without gradients of its parameters."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def fold(model: nn.Module, images: torch.Tensor) -> None:
    """Puts the batch norms of `model` into the convolutions before them."""
    for convolution, norm in find_pairs(model, images).items():
        pair: Any = model.get_submodule(convolution), model.get_submodule(norm)
        fused = fuse_conv_bn_eval(*pair)
        replace_module(model, convolution, fused)
        replace_module(model, norm, nn.Identity())


def find_pairs(model: nn.Module, images: torch.Tensor) -> dict[str, str]:
    """Names of the convolutions whose output goes to a batch norm and nowhere before, and of that batch norm."""
    made_by: dict[int, str] = {}
    keep: list[torch.Tensor] = []
    pairs: dict[str, str] = {}
    calls: dict[str, int] = {}

    def record(name: str):
        def hook(_module: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
            keep.append(output)  # so that no other tensor gets its identity
            made_by[id(output)] = name
            calls[name] = calls.get(name, 0) + 1

        return hook

    def match(name: str):
        def hook(_module: nn.Module, inputs: tuple) -> None:
            calls[name] = calls.get(name, 0) + 1
            if id(inputs[0]) in made_by:
                pairs[made_by[id(inputs[0])]] = name

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(record(name)))
        elif type(module) is nn.BatchNorm2d:  # timm has kinds that do more
            handles.append(module.register_forward_pre_hook(match(name)))
    model(images)
    for handle in handles:
        handle.remove()
    return {conv: norm for conv, norm in pairs.items() if calls[conv] == calls[norm] == 1}


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in the place of the module called `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


# ── gradients on the CPU ─────────────────────────────────────────────────────────────────────────────
