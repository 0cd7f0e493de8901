"""Effects of regions on a function of masks, from pairs of complementary masks: designs, estimates, standard errors.

A function of masks is the sum of one that changes its sign when shown and hidden regions are exchanged, and of one that
does not; a pair of complements gives a value of each. LIME's weights depend on the second little, Shapley values not at
all (Covert & Lee, "Improving KernelSHAP", 2021, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import hadamard
from scipy.special import gammaln

from ferlib.runtime.seeds import combine_seeds

INTERACTION = 2.0  # sum of the regions' relevances: the higher, the more regions interact
BALANCED = 0.87  # spread of estimates over seeds as a share of that of unbalanced masks (benchmarks/bench_maps.py)
NUGGET = 0.03  # variance of what varies from mask to mask, as a share of that of the interactions

Operator = Callable[[np.ndarray, np.ndarray], np.ndarray]  # signs M×regions, relevances → effects M×regions


# ── designs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def balanced_masks(start: int, stop: int, regions: int, seed: int) -> np.ndarray:
    """uint8 stop − start × regions: a part of the endless sequence of masks of `seed`, each followed by its complement.

    The sequence consists of blocks, each an orthogonal array of strength 3 (a Hadamard matrix and its negative:
    Plackett & Burman, "The design of optimum multifactorial experiments", 1946): any three regions are
    shown in all eight ways equally often, so that linear effects are estimated independently of one another and of
    interactions of two. Columns, their signs and the order of the rows are random: all masks are equally likely.
    """
    order = 2 ** int(np.ceil(np.log2(regions + 1)))
    first, last = start // (2 * order), -(-stop // (2 * order))
    blocks = [draw_block(order, regions, combine_seeds(seed, 3, number)) for number in range(first, last)]
    if not blocks:
        return np.zeros((0, regions), np.uint8)
    return np.concatenate(blocks)[start - first * 2 * order : stop - first * 2 * order]


def draw_block(order: int, regions: int, seed: int) -> np.ndarray:
    """2·order masks."""
    rng = np.random.default_rng(seed)
    signs = hadamard(order)[rng.permutation(order)][:, 1 + rng.permutation(order - 1)[:regions]]
    return with_complements((signs * rng.choice([-1, 1], regions) > 0).astype(np.uint8))


def with_complements(masks: np.ndarray) -> np.ndarray:
    """Each of M×regions followed by its complement."""
    return np.stack([masks, 1 - masks], 1).reshape(-1, masks.shape[1])


# ── estimates ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Effects:
    """What an operator gives for a function of masks."""

    values: np.ndarray  # float64 regions,K
    errors: np.ndarray  # float64 regions: standard errors of the values for the target
    changes: np.ndarray  # float64 pairs,regions: of the values for the target, where a pair is left out


def estimate_effects(
    masks: np.ndarray, outputs: np.ndarray, target: np.ndarray, operator: Operator, ridge: float
) -> Effects:
    """The operator's effects of the function with outputs 2M×K on masks 2M×regions, each followed by its complement.

    Universal kriging (Matheron, "The intrinsic random functions and their applications", 1973): the function is a
    linear one plus a Gaussian process, whose covariance of two masks with signs s and t is exp(Σ aᵢ (sᵢ tᵢ − 1)); the
    relevances a follow the sizes of the linear effects, as strong regions interact most. The process is a control
    variate: the operator is known for its sections in closed form. ridge: penalty on the squared linear effects of
    signs, in units of what a pair adds to their precision.

    The standard errors, for the outputs' product with `target` K, count pairs as units. Residuals are those of the
    process without the mask itself, and are corrected for the leverage of the linear part as in HC2 (MacKinnon & White,
    "Some heteroskedasticity-consistent covariance matrix estimators", 1985). What balanced masks save on top is
    BALANCED, measured on real faces.
    """
    signs = 2.0 * masks[::2] - 1
    odd, even = (outputs[::2] - outputs[1::2]) / 2, (outputs[::2] + outputs[1::2]) / 2
    relevance = relevances(signs, odd @ target)
    products = (signs * relevance) @ signs.T
    same, opposite = np.exp(products - relevance.sum()), np.exp(-products - relevance.sum())
    sections, mirrored = operator(signs, relevance), operator(-signs, relevance)
    regions = signs.shape[1]
    of_odd = Kriging.of((same - opposite) / 2, signs, (sections - mirrored) / 2, 2 * np.eye(regions), ridge)
    constant = np.ones((len(signs), 1))
    of_even = Kriging.of((same + opposite) / 2, constant, (sections + mirrored) / 2, np.zeros((1, regions)), 1e-9)
    values = of_odd.weights.T @ odd + of_even.weights.T @ even
    parts = ((of_odd, odd @ target), (of_even, even @ target))
    shares = sum(part.weights * part.residuals(values)[:, None] for part, values in parts)
    changes = -sum(part.weights * part.surprises(values)[:, None] for part, values in parts)
    return Effects(values, BALANCED * np.sqrt(np.square(shares).sum(0)), changes)


def relevances(signs: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """float64 regions, of sum INTERACTION: in proportion to linear effects, or to two standard errors if larger."""
    pairs, regions = signs.shape
    inverse = np.linalg.inv(signs.T @ signs + np.eye(regions))
    effects = inverse @ (signs.T @ odd)
    spread = np.square(odd - signs @ effects).sum() / max(pairs - regions, 1)
    sizes = np.sqrt(np.maximum(effects**2, 4 * spread * np.diag(inverse)))
    total = sizes.sum()
    return INTERACTION * (sizes / total if total else np.full(regions, 1 / regions))


@dataclass(frozen=True)
class Kriging:
    """Kriging of one of both parts of the function: linear in its values M."""

    weights: np.ndarray  # float64 M,regions: of the values in the effects
    projected: np.ndarray  # float64 M,M: values → coefficients of the sections
    scale: np.ndarray  # float64 M: of residuals

    @classmethod
    def of(
        cls, covariance: np.ndarray, trend: np.ndarray, sections: np.ndarray, effects: np.ndarray, ridge: float
    ) -> Kriging:
        """covariance M×M, trend M×T; effects of the covariance's sections M×regions and of the trend T×regions."""
        inverse = np.linalg.inv(covariance + NUGGET / 2 * np.eye(len(covariance)))
        weighted = inverse @ trend
        precision = trend.T @ weighted
        penalty = ridge * np.trace(precision) / max(trend.size, 1) * np.eye(trend.shape[1])
        fit = np.linalg.solve(precision + penalty, weighted.T) if len(trend) else weighted.T
        projected = inverse - weighted @ fit
        scale = np.sqrt((np.diag(projected) * np.diag(inverse)).clip(min=1e-12))
        return cls(fit.T @ effects + projected @ sections, projected, scale)

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """Of the values M."""
        return self.projected @ values / self.scale

    def surprises(self, values: np.ndarray) -> np.ndarray:
        """Of each of the values M its difference from what kriging of all others predicts.

        Dubrule, "Cross validation of kriging in a unique neighborhood" (1983). What is linear in the values is without
        one of them what it is with its prediction in its place.
        """
        return self.projected @ values / np.diag(self.projected)


# ── operators ────────────────────────────────────────────────────────────────────────────────────────────────────────


def factors(signs: np.ndarray, relevance: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the sections exp(Σ aᵢ (sᵢ zᵢ − 1)), a region's factor times its probability: shown (with `share`), hidden."""
    exponents = relevance * signs
    return share * np.exp(exponents - relevance), (1 - share) * np.exp(-exponents - relevance)


def shapley_operator(signs: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """Shapley values M×regions of the sections.

    Owen, "Multilinear extensions of games" (1972): the mean over a share of the expected difference that a region makes
    when every other one is shown with this probability; Gauss-Legendre quadrature.
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    total = np.zeros_like(signs)
    for share, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
        shown, hidden = factors(signs, relevance, share)
        either = shown + hidden
        total += weight * np.exp(np.log(either).sum(1))[:, None] * (shown / share - hidden / (1 - share)) / either
    return total


def regression_operator(
    signs: np.ndarray, relevance: np.ndarray, size_weights: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Coefficients M×regions of the sections in a linear regression on all masks, weighted by their sizes.

    size_weights: regions → float64 regions + 1.
    """
    regions = signs.shape[1]
    expected, shown_expected = np.zeros(len(signs)), np.zeros_like(signs)
    single = double = 0.0  # how often a region is shown, and two of them
    for share, weight in zip(*mixture(regions, size_weights), strict=True):
        shown, hidden = factors(signs, relevance, share)
        either = shown + hidden
        value = weight * np.exp(np.log(either).sum(1))
        expected += value
        shown_expected += value[:, None] * shown / either
        single, double = single + weight * share, double + weight * share**2
    covariances = shown_expected - single * expected[:, None]
    variance, covariance = single - single**2, double - single**2
    common = covariance * covariances.sum(1, keepdims=True) / (variance + (regions - 1) * covariance)
    return (covariances - common) / (variance - covariance) if regions > 1 else covariances / variance


@lru_cache(maxsize=64)
def mixture(regions: int, size_weights: Callable[[int], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Shares and weights, which may be negative: masks of all regions shown with these shares, weighted, are the masks
    shown with ½, weighted by their sizes."""
    sizes = np.arange(regions + 1)
    chances = np.exp(gammaln(regions + 1) - gammaln(sizes + 1) - gammaln(regions - sizes + 1) - regions * np.log(2))
    wanted = size_weights(regions)
    middle = chances * wanted @ sizes / (chances * wanted).sum() / regions
    nodes = np.linspace(-1, 1, min(regions + 1, 9)) * min(2.5 / np.sqrt(regions), 1.5)
    shares = 1 / (1 + np.exp(-2 * nodes - np.log(middle / (1 - middle))))
    ratios = np.exp(np.outer(sizes, np.log(2 * shares)) + np.outer(regions - sizes, np.log(2 * (1 - shares))))
    root = np.sqrt(chances)
    weights = np.linalg.lstsq(ratios * root[:, None], wanted * root, rcond=1e-12)[0]
    return shares, weights / weights.sum()
