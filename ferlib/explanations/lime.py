"""LIME: the weights of a face's regions in a linear model of the network's probabilities.

Ribeiro et al., "Why should I trust you? Explaining the predictions of any classifier" (2016). With independent masks,
perturbations, proximity, ridge regression and R² are those of the lime package on the same segments and seed. Paired
ones, the default, estimate the weights that lime's tend to as their number grows, with fewer perturbations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ferlib.explanations.kernel_shap import add_shapley_values
from ferlib.explanations.pairs import estimate_effects, regression_operator
from ferlib.explanations.perturbations import PerturbedFace, Sampling, Segments, predict_perturbations, segment_faces
from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import face_seeds, target_weights

KERNEL_WIDTH = 0.25  # of the proximity in cosine distance, lime's default for images
RIDGE = 1.0  # penalty on the squared weights, lime's default
# num_samples="auto": perturbations are added until the strongest regions stay the same and their errors are small
AUTO_STEP, AUTO_LIMIT = 256, 4096  # each step adds at least AUTO_STEP, and half of what is there
GROUP = 1024  # paired masks that are evaluated at once, whole blocks of balanced ones
AUTO_ERROR = 0.1  # standard error allowed, as a share of the largest weight


def lime(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    segments: Segments,
    num_samples: int | Literal["auto"] = 1000,
    sampling: Sampling = "paired",
    baseline: str | float = "grey",
    seed: int = 0,
    batch_size: int = 64,
) -> np.ndarray:
    """The LIME weight of each pixel's region: float32 N×H×W, positive where showing the region raises the target.

    model: images N×C×H×W in 0..1 → logits N×K. targets: classes N, or weights N×K of the probabilities. segments:
    region numbers 0, 1, 2, … of each pixel, H×W or N×H×W, or a function of (image H×W×C, seed) as that of
    superpixels.segmenter. sampling: "paired", or "independent" as in the lime package (PerturbedFace.draw_masks).
    baseline: what replaces a hidden region (baselines.make_baseline), or "region": its own mean. UserError for
    probabilities that are not finite.
    """
    seeds = face_seeds(seed, len(images))
    options: dict[str, Any] = {"segments": segments, "num_samples": num_samples, "baseline": baseline}
    options["sampling"] = sampling
    found = explain(model, images, targets, seeds=seeds, batch_size=batch_size, **options)
    return maps_of(found)


def explain(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    segments: Segments,
    num_samples: int | Literal["auto"] = 1000,
    sampling: Sampling = "paired",
    baseline: str | float = "grey",
    top_regions: int = 8,
    kernel_shap: int = 0,
    batch_size: int = 64,
) -> list[Attribution]:
    """As `lime`, an attribution per face with one seed each.

    facts: the weighted R² of the linear model, the number of regions and of perturbations, and how these were drawn:
    independently where there are fewer pairs than regions; of facial parts also landmarks_found. arrays: "segments" and
    "standard_errors" of the weights, H×W, and with `kernel_shap` further perturbations "kernel_shap", the regions'
    Shapley values, whose standard error as a share of their size is the fact "shapley_error". top_regions: of
    num_samples="auto".
    """
    weights = target_weights(model, images, targets).numpy().astype(np.float64)
    faces: Iterable[PerturbedFace] = segment_faces(images, seeds, segments, baseline, weights.shape[1])
    if num_samples == "auto":
        faces = list(faces)
        surrogates = sample_until_stable(model, faces, weights, top_regions, sampling, batch_size)
    else:
        drawn = (face.draw_masks(num_samples, possible(sampling, num_samples, face)) for face in faces)
        faces = predict_perturbations(model, drawn, batch_size)
        surrogates = [fit(face, target) for face, target in zip(faces, weights, strict=True)]
    found = [make_attribution(*row) for row in zip(faces, surrogates, weights, strict=True)]
    if kernel_shap:
        values = add_shapley_values(model, faces, weights, kernel_shap, batch_size)
        for face, attribution, each, target in zip(faces, found, values, weights, strict=True):
            attribution.arrays["kernel_shap"] = (each.values @ target)[face.segments].astype(np.float32)
            attribution.facts["shapley_error"] = each.error(target, face.segments)
    return found


def count_passes(_image_size: int, num_samples: int | Literal["auto"], kernel_shap: int, **_: Any) -> int:
    """Forward passes of single images that a face takes, at least."""
    return (2 * AUTO_STEP if num_samples == "auto" else num_samples) + kernel_shap


# ── the surrogate ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Surrogate:
    """The weighted ridge regression of a face."""

    weights: np.ndarray  # float64 regions,K
    standard_errors: np.ndarray  # float64 regions: of the weights for the target
    r2: float  # of the target, weighted, held out: each mask, or pair, is predicted from the others


def proximity(masks: np.ndarray) -> np.ndarray:
    """Weight of each mask: exp(−D²/KERNEL_WIDTH²)^½ with D the cosine distance to the mask of all regions.

    Ribeiro et al. 2016, section 3.4; lime takes the root of their kernel.
    """
    return proximity_of(masks.mean(1))


def proximity_of(shares: np.ndarray) -> np.ndarray:
    """The same by the share of regions that a mask shows."""
    distance = 1 - np.sqrt(shares)  # the cosine of a 0/1 vector with k ones of n to all ones is √(k/n)
    return np.sqrt(np.exp(-(distance**2) / KERNEL_WIDTH**2))


def size_weights(regions: int) -> np.ndarray:
    """float64 regions + 1: the proximity of masks that show 0, 1, 2, … regions."""
    return proximity_of(np.arange(regions + 1) / regions)


OPERATOR = partial(regression_operator, size_weights=size_weights)


def fit_surrogate(masks: np.ndarray, outputs: np.ndarray, target: np.ndarray) -> Surrogate:
    """Ridge regression of outputs M×K on masks M×regions, for all classes at once in closed form.

    Ribeiro et al. 2016, equation 2 with K-Lasso replaced by ridge, as lime does for images; the intercept is free. The
    standard errors, for the outputs' product with `target` K, are heteroscedasticity-consistent, as residuals of a
    misspecified linear model vary, and those of masks left out (HC3 of MacKinnon & White, "Some
    heteroskedasticity-consistent covariance matrix estimators", 1985): there may be half as many regions as masks. Both
    have the residual of a mask that is left out in closed form, as a linear smoother's is its own over 1 − leverage.
    """
    weights = proximity(masks)
    share = weights / weights.sum()
    centered = masks - share @ masks
    products = outputs - share @ outputs
    gram = (centered * weights[:, None]).T @ centered + RIDGE * np.eye(masks.shape[1])
    solved = np.linalg.solve(gram, np.concatenate([(centered * weights[:, None]).T @ products, np.eye(len(gram))], 1))
    coefficients, inverse = solved[:, : outputs.shape[1]], solved[:, outputs.shape[1] :]
    leverage = share + weights * ((centered @ inverse) * centered).sum(1)
    left_out = (products - centered @ coefficients) @ target / (1 - leverage).clip(min=1e-6)
    scores = centered * (weights * left_out)[:, None]
    errors = np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse).clip(min=0))
    return Surrogate(coefficients, errors, held_out_r2(left_out, products @ target, weights))


def held_out_r2(left_out: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> float:
    """1 − weighted sum of squares of residuals M of masks left out over that of the outputs M from the others' mean.

    Negative where the others' mean predicts a mask better than the linear model of the others; 0 for outputs that do
    not vary.
    """
    share = weights / weights.sum()
    differences = (outputs - share @ outputs) / (1 - share).clip(min=1e-6)
    total = weights @ differences**2
    return float(1 - weights @ left_out**2 / total) if total > 1e-20 else 0.0


def possible(sampling: Sampling, num_samples: int, face: PerturbedFace) -> Sampling:
    """Independent perturbations where there are fewer pairs than weights."""
    return "independent" if num_samples // 2 <= face.masks.shape[1] else sampling


def fit(face: PerturbedFace, target: np.ndarray) -> Surrogate:
    """The surrogate of all perturbations so far."""
    masks = face.masks.astype(np.float64)
    return (fit_pairs if face.sampling == "paired" else fit_surrogate)(masks, face.probabilities, target)


def fit_pairs(masks: np.ndarray, outputs: np.ndarray, target: np.ndarray) -> Surrogate:
    """The weights that those of `fit_surrogate` tend to, from paired masks M×regions and outputs M×K.

    The first pair, which is not a random one, and a last mask without complement have no influence on the weights. The
    estimates of groups of at least GROUP masks are averaged, as the time of one grows with the cube of its masks.
    """
    stop = len(masks) // 2 * 2
    size = GROUP * -(-2 * masks.shape[1] // GROUP)  # no fewer pairs than regions
    starts = range(2, max(stop - size, 2) + 1, size)
    groups = [slice(*ends) for ends in zip(starts, [*starts[1:], stop], strict=True)]
    shares = np.array([group.stop - group.start for group in groups]) / max(stop - 2, 1)
    penalty = 4 * RIDGE  # of signs, whose effects are half as large
    found = [estimate_effects(masks[group], outputs[group], target, OPERATOR, penalty) for group in groups]
    values = sum(share * each.values for share, each in zip(shares, found, strict=True))
    errors = np.sqrt(sum((share * each.errors) ** 2 for share, each in zip(shares, found, strict=True)))
    changes = np.concatenate([share * each.changes for share, each in zip(shares, found, strict=True)])
    used = slice(2, 2 + 2 * len(changes))
    return Surrogate(values, errors, r2_of_pairs(masks[used], outputs[used] @ target, values @ target, changes))


def r2_of_pairs(masks: np.ndarray, outputs: np.ndarray, coefficients: np.ndarray, changes: np.ndarray) -> float:
    """Held-out R² of linear models for outputs 2M of paired masks 2M×regions, each pair predicted from the others.

    coefficients: `regions`, of all pairs; changes: M×regions, what they change by without a pair. The intercepts are
    free.
    """
    weights = proximity(masks)
    rest = (outputs - masks @ coefficients).reshape(-1, 2)  # of the coefficients of all pairs, without an intercept
    weights, shown = weights.reshape(-1, 2), masks.reshape(len(changes), 2, -1)
    others = weights.sum() - weights.sum(1)  # each pair's
    sums = (weights * rest).sum(), np.einsum("ps,psr->r", weights, shown)
    without = sums[0] - (weights * rest).sum(1)
    moved = changes @ sums[1] - np.einsum("ps,psr,pr->p", weights, shown, changes)
    intercepts = (without - moved) / others
    left_out = rest - np.einsum("psr,pr->ps", shown, changes) - intercepts[:, None]
    return held_out_r2(left_out.ravel(), outputs, weights.ravel())


def strongest_regions(surrogate: Surrogate, target: np.ndarray, count: int) -> frozenset[int]:
    """The regions with the largest absolute weights."""
    return frozenset(np.argsort(-np.abs(surrogate.weights @ target))[:count].tolist())


def sample_until_stable(
    model: nn.Module,
    faces: Sequence[PerturbedFace],
    targets: np.ndarray,
    top_regions: int,
    sampling: Sampling,
    batch_size: int,
) -> list[Surrogate]:
    """Adds perturbations to each face until its strongest regions are those of the step before, with small errors.

    Steps grow with what is there, so that a face is looked at a few times only: each look is another chance to stop at
    errors that happen to be small.
    """
    surrogates: dict[int, Surrogate] = {}
    strongest: dict[int, frozenset[int]] = {}
    active = list(range(len(faces)))
    while active:
        for face in (faces[number] for number in active):
            face.draw_masks(next_step(*face.masks.shape), sampling)
        predict_perturbations(model, [faces[number] for number in active], batch_size)
        for number in list(active):
            face, target = faces[number], targets[number]
            found = surrogates[number] = fit(face, target)
            before, strongest[number] = strongest.get(number), strongest_regions(found, target, top_regions)
            limit = AUTO_ERROR * np.abs(found.weights @ target).max()
            precise = found.standard_errors[list(strongest[number])].max() <= limit
            if (precise and before == strongest[number]) or len(face.masks) >= AUTO_LIMIT:
                active.remove(number)
    return [surrogates[number] for number in range(len(faces))]


def next_step(done: int, regions: int) -> int:
    """Perturbations that are added to those done, an even number; first of all enough for as many pairs as regions."""
    return min(max(AUTO_STEP, done // 4 * 2 if done else 2 * regions + 2), AUTO_LIMIT - done)


def make_attribution(face: PerturbedFace, surrogate: Surrogate, target: np.ndarray) -> Attribution:
    """The weights and their standard errors as maps H×W."""
    errors = surrogate.standard_errors[face.segments].astype(np.float32)
    facts: dict[str, Any] = {"r2": surrogate.r2, "segments": face.masks.shape[1], "num_samples": len(face.masks)}
    facts["sampling"] = face.sampling
    if face.landmarks_found is not None:
        facts["landmarks_found"] = face.landmarks_found
    weights = (surrogate.weights @ target).astype(np.float32)
    return Attribution(weights[face.segments], {"segments": face.segments, "standard_errors": errors}, facts)
