"""Targets and seeds of a batch of faces."""

from __future__ import annotations

import torch
from torch import nn

from ferlib.runtime.seeds import combine_seeds


def target_weights(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Weights of the outputs float32 N×K on the CPU, from classes N or weights N×K; the target is their product.

    For class numbers, K is read from the model's output for the first of the images N×C×H×W.
    """
    targets = torch.as_tensor(targets).cpu()
    if targets.ndim == 2:
        return targets.float()
    with torch.inference_mode():
        classes = model(images[:1]).shape[1]
    return torch.eye(classes)[targets.long()]


def face_seeds(seed: int, count: int) -> list[int]:
    """One seed per face of a batch that has no place in a split."""
    return [combine_seeds(seed, position) for position in range(count)]
