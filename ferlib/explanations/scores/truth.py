"""A map against the exact Shapley values of facial regions, which is the truth of that game and of no more."""

from __future__ import annotations

import numpy as np
from scipy import stats

from ferlib.explanations.records import Attribution


def density(attribution: Attribution) -> np.ndarray:
    """The map as values that can be summed over any set of pixels: float64 H×W.

    Methods that give a region's value to each of its pixels (LIME, KernelSHAP, facial regions) have it shared among
    them; maps of other methods are densities already.
    """
    values = attribution.map.astype(np.float64)
    segments = attribution.arrays.get("segments", attribution.arrays.get("regions"))
    if segments is None:
        return values
    return values / np.bincount(segments.ravel())[segments]


def region_sums(values: np.ndarray, regions: np.ndarray, count: int) -> np.ndarray:
    """float64 count: the sums of H×W over each of the regions H×W, 0 to count − 1."""
    return np.bincount(regions.ravel(), values.ravel(), minlength=count)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, −1..1; 0 where one of both is constant, as such a map says nothing."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)


def shape_error(sums: np.ndarray, exact: np.ndarray) -> float:
    """What is left of exact values after the best multiple ≥ 0 of the sums, as a share of their size: 0..1.

    So methods of any unit can be compared: 0 means proportional to the exact values, 1 no better than no map at all.
    """
    size, product = float(exact @ exact), float(sums @ exact)
    if size == 0 or product <= 0:
        return 1.0
    return float(np.sqrt(max(0.0, 1 - product**2 / (size * float(sums @ sums)))))
