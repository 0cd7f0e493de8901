"""Deletion and insertion: the output as the pixels, or the regions, of a face go or come in the order of a map.

Petsiuk, Das & Saenko, "RISE: Randomized input sampling for explanation of black-box models" (2018), section 4.3, which
removes pixels in the order of the map, and inserts them into a blurred picture.
"""

from __future__ import annotations

import numpy as np
import torch

STEPS = 10  # equal parts of the pixels


def pixel_order(values: np.ndarray, seed: int) -> np.ndarray:
    """int64 H·W: pixels from the highest value to the lowest; equal ones in a random order."""
    ties = np.random.default_rng(seed).random(values.size)
    return np.lexsort((ties, -values.ravel()))


def shown_pixels(order: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """bool 2(steps − 1)×H·W: what is shown as pixels are deleted in the order, then as they are inserted.

    The ends, all pixels and none, are left out: they are the same for all maps.
    """
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    counts = np.round(np.arange(1, steps) / steps * len(order))[:, None]
    return np.concatenate([ranks >= counts, ranks < counts])


def region_order(sums: np.ndarray, seed: int) -> np.ndarray:
    """int64 n: regions from the highest sum to the lowest; equal ones in a random order."""
    return pixel_order(sums, seed)


def region_rows(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the table of coalitions (coalitions.py) as regions are deleted, and as they are inserted: 2 × n + 1."""
    gone = np.concatenate([[0], np.cumsum(2 ** order.astype(np.int64))])
    return gone[-1] - gone, gone


def area(outputs: np.ndarray) -> float:
    """The area under outputs at equal steps of the share of pixels or regions, both ends included: trapezoids."""
    return float((outputs[1:] + outputs[:-1]).mean() / 2)


def fill_hidden(image: torch.Tensor, filled: torch.Tensor, shown: np.ndarray) -> torch.Tensor:
    """The face C×H×W with the pixels that each of bool M×H·W does not show taken from `filled`: M×C×H×W."""
    visible = torch.from_numpy(shown).to(image.device).view(-1, 1, *image.shape[1:])
    return torch.where(visible, image, filled)
