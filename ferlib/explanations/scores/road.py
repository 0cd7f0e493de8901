"""ROAD: the output with the pixels of a map's highest, and of its lowest, values blended into their neighbours.

Rong et al., "A consistent and efficient evaluation strategy for attribution methods" (2022), section 4.2: noisy linear
imputation. A pixel that is removed becomes the weighted mean of its eight neighbours, removed ones included, so that
its place cannot be told from an edge.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

PERCENTILES = (20, 40, 60, 80)
NOISE = 0.01  # standard deviation of what is added to removed pixels
NEIGHBOURS = {(0, 1): 1 / 6, (0, -1): 1 / 6, (1, 0): 1 / 6, (-1, 0): 1 / 6,
              (1, 1): 1 / 12, (1, -1): 1 / 12, (-1, 1): 1 / 12, (-1, -1): 1 / 12}  # fmt: skip


def removed_pixels(values: np.ndarray, order: np.ndarray, percentiles: tuple[int, ...] = PERCENTILES) -> np.ndarray:
    """bool 2P×H×W: the pixels removed, the highest ones first, then the lowest ones first.

    order: all pixels from the highest value to the lowest.
    """
    counts = [round(percentile / 100 * values.size) for percentile in percentiles]
    masks = np.zeros((2, len(counts), values.size), bool)
    for row, count in enumerate(counts):
        masks[0, row, order[:count]] = True
        masks[1, row, order[len(order) - count :]] = True
    return masks.reshape(-1, *values.shape)


@lru_cache(maxsize=8)
def neighbour_weights(height: int, width: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Weights of each pixel's neighbours H·W×H·W, 0 beyond the border, and their sums."""
    pixels = np.arange(height * width).reshape(height, width)
    rows, columns, weights = [], [], []
    for (down, right), weight in NEIGHBOURS.items():
        here = pixels[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
        there = pixels[max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
        rows.append(here.ravel())
        columns.append(there.ravel())
        weights.append(np.full(here.size, weight))
    size = height * width
    place = (np.concatenate(rows), np.concatenate(columns))
    matrix = sparse.csr_matrix((np.concatenate(weights), place), shape=(size, size))
    return matrix, np.asarray(matrix.sum(1)).ravel()


def impute(image: np.ndarray, removed: np.ndarray, rng: np.random.Generator, noise: float = NOISE) -> np.ndarray:
    """A face C×H×W whose pixels `removed` bool H×W are the weighted means of their neighbours, plus noise."""
    channels, height, width = image.shape
    matrix, sums = neighbour_weights(height, width)
    gone = removed.ravel()
    own = matrix[gone]
    system = sparse.diags(sums[gone]) - own[:, gone]
    known = own[:, ~gone] @ image.reshape(channels, -1)[:, ~gone].T
    solved = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(
        known
    )  # pixels × channels
    filled = image.reshape(channels, -1).copy()
    filled[:, gone] = solved.T + noise * rng.standard_normal(solved.T.shape)
    return filled.reshape(image.shape)


def road(outputs: np.ndarray) -> float:
    """Half the mean difference of the outputs 2P as in removed_pixels: lowest first less highest first, −0.5..0.5."""
    highest, lowest = np.split(outputs, 2)
    return float((lowest - highest).mean() / 2)
