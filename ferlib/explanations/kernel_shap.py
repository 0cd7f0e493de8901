"""KernelSHAP: Shapley values of regions, from sets that were shown for LIME and sets of its own.

Lundberg & Lee, "A unified approach to interpreting model predictions" (2017), theorem 2: Shapley values are the linear
regression on the shown regions, weighted by the kernel (M − 1) / (C(M, k) k (M − k)) for k of M regions and bound to
sum to the difference between the whole face and the hidden one.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln


def size_probabilities(regions: int) -> np.ndarray:
    """float64 regions − 1: the kernel's share of the sets of 1, 2, … regions."""
    sizes = np.arange(1, regions)
    shares = 1 / (sizes * (regions - sizes))
    return shares / shares.sum()


def draw_sets(count: int, regions: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 count×regions: random sets as the kernel weighs them, each followed by its complement.

    Covert & Lee, "Improving KernelSHAP" (2021), section 4.1: pairs of complements reduce the variance.
    """
    if regions < 2:
        return np.zeros((0, regions), np.uint8)  # there is nothing between the whole face and the hidden one
    sizes = rng.choice(np.arange(1, regions), -(-count // 2), p=size_probabilities(regions))
    ranks = rng.random((len(sizes), regions)).argsort(1).argsort(1)
    sets = (ranks < sizes[:, None]).astype(np.uint8)
    return np.stack([sets, 1 - sets], 1).reshape(-1, regions)[:count]


def mixture_weights(shown: np.ndarray, uniform: int, own: int) -> np.ndarray:
    """Weight of each of draws×regions in the regression: kernel over the density it was drawn from.

    The density is that of a mixture (Veach & Guibas, 1995, balance heuristic): `uniform` draws in which each region is
    shown with probability ½, as LIME draws, and `own` draws of `draw_sets`. The whole face and the hidden one weigh
    nothing here: they bind the sum.
    """
    regions = shown.shape[1]
    sizes = shown.sum(1).astype(int)
    inner = (sizes > 0) & (sizes < regions)
    k = sizes[inner]
    log_sets = gammaln(regions + 1) - gammaln(k + 1) - gammaln(regions - k + 1)
    log_ratio = log_sets - regions * np.log(2) - np.log(size_probabilities(regions)[k - 1])
    weights = np.zeros(len(shown))
    weights[inner] = 1 / (uniform * np.exp(log_ratio) + own)
    return weights


def solve(
    shown: np.ndarray, outputs: np.ndarray, weights: np.ndarray, whole: np.ndarray, hidden: np.ndarray
) -> np.ndarray:
    """Shapley values float64 regions×7 of the outputs draws×7; `whole` and `hidden` are the outputs with all and with
    no regions shown. They sum to whole − hidden (the equality is eliminated by a Lagrange multiplier)."""
    if not weights.any():  # a single region
        return (whole - hidden)[None]
    shown = shown.astype(np.float64)
    gram = (shown * weights[:, None]).T @ shown
    gram += 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))  # regions that were never told apart
    right = (shown * weights[:, None]).T @ (outputs - hidden)
    solved = np.linalg.solve(gram, np.concatenate([right, np.ones((len(gram), 1))], 1))
    values, ones = solved[:, :-1], solved[:, -1:]
    return values - ones * (values.sum(0) - (whole - hidden)) / ones.sum()
