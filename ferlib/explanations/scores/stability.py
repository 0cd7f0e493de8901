"""Stability: whether a map stays the same with another seed, fill or segmentation, and under small noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

RADIUS = 0.02  # of the noise, as in captum.metrics.sensitivity_max
NOISY = 4  # copies of a face
TOP = 0.1  # share of the pixels that count as the strongest


def top_overlap(one: np.ndarray, other: np.ndarray, share: float = TOP) -> float:
    """The share of the strongest pixels of one map that are among those of the other: 0..1."""
    count = max(1, round(share * one.size))
    first, second = (
        set(np.argsort(-np.abs(values), axis=None, kind="stable")[:count].tolist()) for values in (one, other)
    )
    return len(first & second) / count


def noisy_copies(image: torch.Tensor, seed: int, count: int = NOISY, radius: float = RADIUS) -> torch.Tensor:
    """The face C×H×W with uniform noise within ±radius: count×C×H×W."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, *image.shape, generator=generator) * 2 - 1
    return image + radius * noise.to(image.device)


def max_sensitivity(values: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """The largest distance of the maps of noisy copies from that of the face, as a share of its norm.

    Yeh et al., "On the (in)fidelity and sensitivity of explanations" (2019), equation 3, over the copies drawn.
    """
    size = float(np.linalg.norm(values))
    return max(float(np.linalg.norm(other - values)) for other in others) / size if size else 0.0
