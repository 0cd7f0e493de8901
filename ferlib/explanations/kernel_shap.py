"""KernelSHAP: Shapley values of regions by weighted linear regression on perturbation masks.

Lundberg & Lee, "A unified approach to interpreting model predictions" (2017), theorem 2: the regression on the masks,
weighted by the kernel (M − 1) / (C(M, k) k (M − k)) for k of M regions shown, constrained to sum to the difference
between the outputs with all and with no regions shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import gammaln
from torch import nn

from ferlib.explanations.perturbations import PerturbedFace, Segments, predict_perturbations, segment_faces
from ferlib.explanations.targets import face_seeds, target_weights


def kernel_shap(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    segments: Segments,
    num_samples: int = 1000,
    baseline: str | float = "grey",
    seed: int = 0,
    batch_size: int = 64,
) -> np.ndarray:
    """The Shapley value of each pixel's region: float32 N×H×W, in the target's probability.

    model: images N×C×H×W in 0..1 → logits N×K. targets: classes N, or weights N×K of the probabilities. segments,
    baseline: as in lime.lime. The values of the regions sum to the difference between the target's probability of the
    image and that of its baseline.
    """
    weights = target_weights(model, images, targets).numpy().astype(np.float64)
    seeds = face_seeds(seed, len(images))
    faces = list(segment_faces(images, seeds, segments, baseline, weights.shape[1]))
    for face in faces:
        face.masks = np.ones((1, face.masks.shape[1]), np.uint8)
    predict_perturbations(model, faces, batch_size)
    values = add_shapley_values(model, faces, seeds, num_samples, batch_size)
    rows = zip(faces, values, weights, strict=True)
    return np.stack([(each @ target).astype(np.float32)[face.segments] for face, each, target in rows])


def add_shapley_values(
    model: nn.Module, faces: Sequence[PerturbedFace], seeds: Sequence[int], further: int, batch_size: int
) -> list[np.ndarray]:
    """Shapley values of each face's regions, float64 regions×K, from its masks and `further` ones of the kernel.

    The first mask of each face shows all regions and is predicted already, as are the others.
    """
    others = []
    for face, seed in zip(faces, seeds, strict=True):
        masks = draw_masks(further, face.masks.shape[1], np.random.default_rng([seed, 2]))
        masks = np.concatenate([np.zeros((1, face.masks.shape[1]), np.uint8), masks])
        none = np.zeros((0, face.probabilities.shape[1]))
        others.append(PerturbedFace(face.image, face.baseline, face.segments, face.random, masks, none))
    predict_perturbations(model, others, batch_size)
    return [combine(*pair) for pair in zip(faces, others, strict=True)]


def combine(face: PerturbedFace, other: PerturbedFace) -> np.ndarray:
    """One regression on both sets of masks; the first one of `face` shows all regions, that of `other` none."""
    masks = np.concatenate([face.masks[1:], other.masks[1:]])
    outputs = np.concatenate([face.probabilities[1:], other.probabilities[1:]])
    weights = mixture_weights(masks, len(face.masks) - 1, len(other.masks) - 1)
    return solve(masks, outputs, weights, face.probabilities[0], other.probabilities[0])


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
    gram = (masks * weights[:, None]).T @ masks
    gram += 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))  # regions with equal columns in all masks
    right = (masks * weights[:, None]).T @ (outputs - hidden)
    solved = np.linalg.solve(gram, np.concatenate([right, np.ones((len(gram), 1))], 1))
    values, ones = solved[:, :-1], solved[:, -1:]
    return values - ones * (values.sum(0) - (whole - hidden)) / ones.sum()
