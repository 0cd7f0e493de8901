"""Infidelity: how far a map is from what the output does when squares of the face are replaced.

Yeh et al., "On the (in)fidelity and sensitivity of explanations" (2019), definition 2.1, with the map scaled by the
factor that makes it smallest (their proposition 4.1 and captum's normalize=True). The map's values are contributions,
so that the sum over a square is what removing it should cost (captum's multiply_by_inputs).
"""

from __future__ import annotations

import numpy as np
import torch

SQUARES = 48  # perturbations of a face
SIDES = (0.15, 0.45)  # of the squares, as shares of the face's


def draw_squares(height: int, width: int, seed: int, count: int = SQUARES) -> np.ndarray:
    """bool count×H×W: squares of random side and place."""
    rng = np.random.default_rng(seed)
    sides = np.round(rng.uniform(*SIDES, count) * min(height, width)).astype(int).clip(1)
    tops, lefts = rng.integers(0, height - sides + 1), rng.integers(0, width - sides + 1)
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None]
    inside = [
        (axis >= start[:, None, None]) & (axis < (start + sides)[:, None, None])
        for axis, start in ((rows, tops), (columns, lefts))
    ]
    return inside[0] & inside[1]


def replaced(image: torch.Tensor, filled: torch.Tensor, squares: np.ndarray) -> torch.Tensor:
    """The face C×H×W with each of the squares M×H×W taken from `filled`: M×C×H×W."""
    inside = torch.from_numpy(squares).to(image.device)[:, None]
    return torch.where(inside, filled, image)


def infidelity(values: np.ndarray, squares: np.ndarray, falls: np.ndarray) -> float:
    """Mean of (β Σφ − fall)² over perturbations, as a share of the mean of fall²: 0 is perfect, 1 is a map of zeros.

    values: the attribution φ, H×W, of which the sum over a square should be the fall. squares: bool M×H×W. falls: M,
    the output of the face less that of the perturbed one. β is the factor that makes the mean smallest.
    """
    products = squares.reshape(len(squares), -1) @ values.ravel()
    size = float(products @ products)
    scale = float(products @ falls) / size if size else 0.0
    total = float(np.square(falls).mean())
    return float(np.square(scale * products - falls).mean() / total) if total else 0.0
