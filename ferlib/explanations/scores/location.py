"""Where a map lies: pointing, mass and rank accuracy against masks of the evidence, corrected for the masks' size.

Zhang et al., "Top-down neural attention by excitation backprop" (2016), section 4.2, for the pointing game; Arras et
al., "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network explanations" (2022), equations
3 and 4, for relevance mass and rank accuracy.
"""

from __future__ import annotations

import numpy as np


def pointing(values: np.ndarray, mask: np.ndarray) -> float:
    """Whether the highest value lies in bool H×W: 0 or 1; of equal highest ones the share that does."""
    peaks = values == values.max()
    return float(mask[peaks].mean())


def mass_accuracy(values: np.ndarray, mask: np.ndarray) -> float:
    """The share of the positive values that lies in the mask; 0 of a map without any."""
    positive = np.maximum(values, 0)
    total = positive.sum()
    return float(positive[mask].sum() / total) if total > 0 else 0.0


def rank_accuracy(values: np.ndarray, mask: np.ndarray) -> float:
    """The share of the K highest values that lies in the mask of K pixels; equal ones count with their share."""
    count = int(mask.sum())
    flat, inside = values.ravel(), mask.ravel()
    limit = np.partition(flat, -count)[-count]
    above, equal = flat > limit, flat == limit
    left = (count - above.sum()) / equal.sum()
    return float((inside[above].sum() + left * inside[equal].sum()) / count)


def corrected(share: float, mask: np.ndarray) -> float:
    """A share less what chance gives, as a share of what is left above chance: 0 is chance, 1 is perfect.

    A map of random values has the mask's share of the area in each of the three.
    """
    chance = float(mask.mean())
    return (share - chance) / (1 - chance) if chance < 1 else 0.0
