"""Targets and seeds of a batch of faces."""

from __future__ import annotations

import torch

from config import EMOTIONS
from ferlib.runtime.seeds import combine_seeds


def target_weights(targets: torch.Tensor, classes: int = len(EMOTIONS)) -> torch.Tensor:
    """Weights of the outputs float32 N×K on the CPU, from classes N or weights N×K; the target is their product.

    Class numbers need the number of classes: 7, or as many as the largest one asks for.
    """
    targets = torch.as_tensor(targets).cpu()
    if targets.ndim == 2:
        return targets.float()
    return torch.eye(max(classes, int(targets.max()) + 1))[targets.long()]


def face_seeds(seed: int, count: int) -> list[int]:
    """One seed per face of a batch that has no place in a split."""
    return [combine_seeds(seed, position) for position in range(count)]
