"""KernelSHAP: Shapley values of regions by weighted linear regression on perturbation masks.

Lundberg & Lee, "A unified approach to interpreting model predictions" (2017), theorem 2: the regression on the masks,
weighted by the kernel (M − 1) / (C(M, k) k (M − k)) for k of M regions shown, constrained to sum to the difference
between the outputs with all and with no regions shown. Paired masks, the default, give estimates of pairs.py instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import gammaln
from torch import nn

from ferlib.explanations.pairs import estimate_effects, shapley_operator, with_complements
from ferlib.explanations.perturbations import PerturbedFace, Sampling, Segments, predict_perturbations, segment_faces
from ferlib.explanations.targets import face_seeds, target_weights


def kernel_shap(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    segments: Segments,
    num_samples: int = 1000,
    sampling: Sampling = "paired",
    baseline: str | float = "grey",
    seed: int = 0,
    batch_size: int = 64,
) -> np.ndarray:
    """The Shapley value of each pixel's region: float32 N×H×W, in the target's probability.

    model: images N×C×H×W in 0..1 → logits N×K. targets: classes N, or weights N×K of the probabilities. segments,
    sampling, baseline: as in lime.lime. The values of the regions sum to the difference between the target's
    probability of the image and that of its baseline.
    """
    weights = target_weights(model, images, targets).numpy().astype(np.float64)
    seeds = face_seeds(seed, len(images))
    faces = list(segment_faces(images, seeds, segments, baseline, weights.shape[1]))
    own = num_samples // 4 * 2 if sampling == "paired" else 0  # the others are drawn by add_shapley_values
    for face in faces:
        face.draw_masks(own + (2 if sampling == "paired" else 1), sampling)
    predict_perturbations(model, faces, batch_size)
    values = add_shapley_values(model, faces, weights, num_samples - own, batch_size)
    rows = zip(faces, values, weights, strict=True)
    return np.stack([(each.values @ target).astype(np.float32)[face.segments] for face, each, target in rows])


@dataclass(frozen=True)
class ShapleyValues:
    """Of the regions of a face."""

    values: np.ndarray  # float64 regions,K
    errors: np.ndarray  # float64 regions: standard errors of the values for the target, 0 of exact ones

    def error(self, target: np.ndarray, segments: np.ndarray) -> float:
        """The root of the mean squared error as a share of that of the values, over the pixels of H×W segments."""
        size = np.square(self.values @ target)[segments].mean()
        return float(np.sqrt(np.square(self.errors)[segments].mean() / size)) if size else 0.0


def add_shapley_values(
    model: nn.Module,
    faces: Sequence[PerturbedFace],
    targets: np.ndarray,
    further: int,
    batch_size: int,
) -> list[ShapleyValues]:
    """Shapley values of each face's regions from its masks and `further` ones.

    The first mask of each face shows all regions and is predicted already, as are the others. Where there are no more
    masks than `further`, all of them are taken, and the values are exact. targets: weights N×K of the outputs; the
    relevance of regions is estimated for them.
    """
    others = [replace(face, masks=further_masks(face, further), probabilities=none_of(face)) for face in faces]
    predict_perturbations(model, others, batch_size)
    return [combine(*row) for row in zip(faces, others, targets, strict=True)]


def none_of(face: PerturbedFace) -> np.ndarray:
    """No probabilities."""
    return np.zeros((0, face.probabilities.shape[1]))


def further_masks(face: PerturbedFace, count: int) -> np.ndarray:
    """The mask of no regions, then `count` others, or all others if there are no more."""
    regions = face.masks.shape[1]
    rng = np.random.default_rng([face.seed, 2])
    if count_inner(regions) <= count:
        masks = np.array(list(itertools.product([0, 1], repeat=regions))[1:-1], np.uint8).reshape(-1, regions)
    else:
        masks = (draw_by_leverage if face.sampling == "paired" else draw_masks)(count, regions, rng)
    return np.concatenate([np.zeros((1, regions), np.uint8), masks])


def count_inner(regions: int) -> int:
    """How many masks lie between all regions and none."""
    return 2**regions - 2


def combine(face: PerturbedFace, other: PerturbedFace, target: np.ndarray) -> ShapleyValues:
    """The values from both sets of masks; the first one of `face` shows all regions, that of `other` none."""
    whole, hidden = face.probabilities[0], other.probabilities[0]
    masks, outputs = other.masks[1:], other.probabilities[1:]
    if len(masks) == count_inner(masks.shape[1]):
        values = solve(masks, outputs, mixture_weights(masks, len(masks), 0), whole, hidden)
        return ShapleyValues(values, np.zeros(len(values)))
    if face.sampling == "paired":
        own, new = (slice(start, start + (len(each.masks) - start) // 2 * 2) for start, each in ((2, face), (1, other)))
        masks = np.concatenate([face.masks[:1], other.masks[:1], face.masks[own], other.masks[new]])
        outputs = np.concatenate([[whole, hidden], face.probabilities[own], other.probabilities[new]])
        found = estimate_effects(masks, outputs, target, shapley_operator, ridge=1e-6)
        values = found.values + (whole - hidden - found.values.sum(0)) / len(found.values)
        return ShapleyValues(values, found.errors)
    masks = np.concatenate([face.masks[1:], masks])
    outputs = np.concatenate([face.probabilities[1:], outputs])
    weights = mixture_weights(masks, len(face.masks) - 1, len(other.masks) - 1)
    values = solve(masks, outputs, weights, whole, hidden)
    units = np.concatenate([np.arange(len(face.masks) - 1), len(masks) + np.arange(len(other.masks) - 1) // 2])
    return ShapleyValues(values, standard_errors(masks, (outputs - hidden - masks @ values) @ target, weights, units))


def draw_by_leverage(count: int, regions: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 count×regions: masks of all sizes equally often, each followed by its complement.

    The leverage of a size in the kernel's regression is the same for all sizes (Musco & Witter, "Provably accurate
    Shapley value estimation via leverage score sampling", 2025, lemma 3.2). Masks of a size divide the regions among
    them, so that no mask comes twice before all regions have come once.
    """
    pairs = -(-count // 2)
    sizes = 1 + ((np.arange(pairs) + rng.random(pairs)) / pairs * (regions - 1)).astype(int)
    sizes = np.minimum(sizes, regions - sizes)  # the complement has the other size
    masks = np.zeros((pairs, regions), np.uint8)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        parts = [rng.permutation(regions)[: regions // size * size] for _ in range(-(-len(rows) // (regions // size)))]
        masks[rows[:, None], np.concatenate(parts).reshape(-1, size)[: len(rows)]] = 1
    return with_complements(masks[rng.permutation(pairs)])[:count]


def size_probabilities(regions: int) -> np.ndarray:
    """float64 regions − 1: the kernel's total weight of the masks that show 1, 2, … regions, normalised."""
    sizes = np.arange(1, regions)
    shares = 1 / (sizes * (regions - sizes))
    return shares / shares.sum()


def draw_masks(count: int, regions: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 count×regions: masks drawn in proportion to the kernel, each followed by its complement.

    Covert & Lee, "Improving KernelSHAP" (2021), section 4.1: pairs of complements reduce the variance.
    """
    if regions < 2:
        return np.zeros((0, regions), np.uint8)  # no mask lies between all and none
    sizes = rng.choice(np.arange(1, regions), -(-count // 2), p=size_probabilities(regions))
    ranks = rng.random((len(sizes), regions)).argsort(1).argsort(1)
    masks = (ranks < sizes[:, None]).astype(np.uint8)
    return np.stack([masks, 1 - masks], 1).reshape(-1, regions)[:count]


def mixture_weights(masks: np.ndarray, uniform: int, own: int) -> np.ndarray:
    """Weight of each mask M×regions in the regression: the kernel over the density that the mask was drawn from.

    The density is that of a mixture (Veach & Guibas, "Optimally combining sampling techniques for Monte Carlo
    rendering", 1995, balance heuristic): `uniform` masks in which each region is shown with probability ½, as LIME
    draws them, and `own` masks of `draw_masks`. The masks of all and of no regions get weight 0: they enter as the
    constraint on the sum.
    """
    regions = masks.shape[1]
    sizes = masks.sum(1).astype(int)
    inner = (sizes > 0) & (sizes < regions)
    k = sizes[inner]
    log_sets = gammaln(regions + 1) - gammaln(k + 1) - gammaln(regions - k + 1)
    log_ratio = log_sets - regions * np.log(2) - np.log(size_probabilities(regions)[k - 1])
    weights = np.zeros(len(masks))
    weights[inner] = 1 / (uniform * np.exp(log_ratio) + own)
    return weights


def solve(
    masks: np.ndarray, outputs: np.ndarray, weights: np.ndarray, whole: np.ndarray, hidden: np.ndarray
) -> np.ndarray:
    """Shapley values float64 regions×K from outputs M×K of masks M×regions and the masks' weights M.

    whole, hidden: outputs K with all and with no regions shown. The values sum to whole − hidden; the equality is
    eliminated by a Lagrange multiplier.
    """
    if not weights.any():  # a single region
        return (whole - hidden)[None]
    masks = masks.astype(np.float64)
    gram = regularised_gram(masks, weights)
    right = (masks * weights[:, None]).T @ (outputs - hidden)
    solved = np.linalg.solve(gram, np.concatenate([right, np.ones((len(gram), 1))], 1))
    values, ones = solved[:, :-1], solved[:, -1:]
    return values - ones * (values.sum(0) - (whole - hidden)) / ones.sum()


def regularised_gram(masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 regions×regions: the products of the masks' columns, with a trace of ridge."""
    gram = (masks * weights[:, None]).T @ masks
    return gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))  # regions with equal columns in all masks


def standard_errors(masks: np.ndarray, residuals: np.ndarray, weights: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Standard errors float64 regions of the values that `solve` gives, from the residuals M of a linear function.

    Heteroscedasticity-consistent with the masks' leverages (HC3, MacKinnon & White, "Some
    heteroskedasticity-consistent covariance matrix estimators", 1985), and clustered: masks of one of the `units` M
    were drawn together.
    """
    if not weights.any():
        return np.zeros(masks.shape[1])
    masks = masks.astype(np.float64)
    inverse = np.linalg.inv(regularised_gram(masks, weights))
    ones = inverse.sum(1)
    inverse -= np.outer(ones, ones) / ones.sum()  # the values' sum is known
    leverage = weights * ((masks @ inverse) * masks).sum(1)
    scores = masks * (weights * residuals / (1 - leverage).clip(min=1e-6))[:, None]
    _, rows = np.unique(units, return_inverse=True)
    of_units = np.zeros((rows.max() + 1, masks.shape[1]))
    np.add.at(of_units, rows, scores)
    return np.sqrt(np.square(of_units @ inverse).sum(0))
