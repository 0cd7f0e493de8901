"""Three maps that need no network, which every method must beat: random values, a centred Gaussian, edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage

from ferlib.explanations.records import Attribution

WIDTH = 0.25  # standard deviation of the Gaussian as a share of the side


def random_map(image: np.ndarray, seed: int) -> np.ndarray:
    """Independent normal values."""
    return np.random.default_rng(seed).standard_normal(image.shape[1:])


def gaussian_map(image: np.ndarray, seed: int) -> np.ndarray:  # noqa: ARG001 — the same for all faces
    """A Gaussian around the centre: most faces fill their picture."""
    height, width = image.shape[1:]
    down, right = ((np.arange(side) + 0.5) / side - 0.5 for side in (height, width))
    return np.exp(-(down[:, None] ** 2 + right**2) / (2 * WIDTH**2))


def sobel_map(image: np.ndarray, seed: int) -> np.ndarray:  # noqa: ARG001 — nothing is random
    """Sizes of the grey values' gradient: Sobel & Feldman's 3×3 operator."""
    grey = image.mean(0)
    return np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))


MAPS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {  # rows of columns.SIMPLE: functions of C×H×W and a seed
    "random": random_map,
    "gaussian": gaussian_map,
    "sobel": sobel_map,
}


def explain(name: str, images: torch.Tensor, seeds: Sequence[int]) -> list[Attribution]:
    """The map of a row of MAPS of each of N×C×H×W."""
    make = MAPS[name]
    pixels = images.cpu().numpy()
    return [Attribution(make(image, seed).astype(np.float32)) for image, seed in zip(pixels, seeds, strict=True)]
