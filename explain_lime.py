"""LIME: which superpixels of a face speak for and against the predicted expression.

python explain_lime.py --model resnet50 --dataset fer2013 --samples 20 --lime-samples 1000
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import tyro
from lime.lime_image import LimeImageExplainer
from skimage.segmentation import quickshift
from skimage.transform import resize
from torch import nn

import config
from distributed import processes
from explanation_figures import draw_lime
from explanations import (
    Attribution,
    Method,
    explain_run,
    face_seeds,
    open_run,
    own_flags,
    predict_probabilities,
)
from utils import combine_seeds, run_script

KERNEL_WIDTH = 0.25  # of the proximity in cosine distance, lime's default for images


class VectorizedLime(LimeImageExplainer):
    """lime's explainer with the same random draws, perturbing whole batches at once and without a progress bar."""

    def data_labels(self, image, fudged_image, segments, classifier_fn, num_samples, batch_size=10):
        """Binary features num_samples × regions (first row: nothing hidden) and the classifier's outputs for them."""
        regions = int(segments.max()) + 1
        features = self.random_state.randint(0, 2, num_samples * regions).reshape(num_samples, regions)
        features[0] = 1
        outputs = []
        for start in range(0, num_samples, batch_size):
            shown = features[start : start + batch_size][:, segments, None] == 1  # N,H,W,1
            outputs.append(classifier_fn(np.where(shown, image, fudged_image)))
        return features, np.concatenate(outputs)


def segment(image: np.ndarray, settings: config.ExplainLime, seed: int) -> np.ndarray:
    """Quickshift superpixels of a face, float H×W×C in 0..1 → int16 H×W, numbered 0, 1, 2, … without gaps.

    Vedaldi & Soatto, "Quick shift and kernel methods for mode seeking", ECCV 2008. A face of 48 pixels has some 10 such
    regions and one of 224 pixels some 200; so every face is segmented at `segmentation_side` and the regions are
    sampled back at the centres of its own pixels: the settings mean the same for every model.
    """
    height, width, side = *image.shape[:2], settings.segmentation_side
    enlarged = resize(image.astype(np.float64), (side, side), order=1)
    regions = quickshift(
        np.broadcast_to(enlarged, (*enlarged.shape[:2], 3)),
        kernel_size=settings.kernel_size,
        max_dist=settings.max_dist,
        ratio=settings.ratio,
        rng=seed % 2**31,  # skimage keeps it in a C int
    )
    rows = ((np.arange(height) + 0.5) * side / height).astype(int)
    columns = ((np.arange(width) + 0.5) * side / width).astype(int)
    _, numbers = np.unique(regions[np.ix_(rows, columns)], return_inverse=True)
    return numbers.reshape(height, width).astype(np.int16)


def explain_face(
    model: nn.Module, image: torch.Tensor, target: int, settings: config.ExplainLime, seed: int
) -> Attribution:
    """LIME of one face C×H×W in 0..1; the facts are the surrogate's weighted R² and the number of regions.

    Ribeiro et al., "Why should I trust you?", KDD 2016: over random sets z of shown regions, ridge regression of the
    target's probability on z, weighted by exp(−D(z, 1)² / KERNEL_WIDTH²)^½ with D the cosine distance (their eq. 2). A
    pixel's value is the weight of its region: by how much showing the region raises the probability.
    """
    channels = image.shape[0]
    pixels = image.permute(1, 2, 0).cpu().numpy()
    segments = segment(pixels, settings, combine_seeds(seed, 1))

    def classify(perturbed: np.ndarray) -> np.ndarray:  # N,H,W,3 of which a grey model input takes one channel
        batch = torch.from_numpy(perturbed[..., :channels]).float().permute(0, 3, 1, 2).to(image.device)
        return predict_probabilities(model, batch, settings.batch_size)

    explanation = VectorizedLime(KERNEL_WIDTH, feature_selection="none", random_state=seed).explain_instance(
        np.broadcast_to(pixels, (*segments.shape, 3)).astype(np.float64),
        classify,
        labels=(target,),
        top_labels=None,
        hide_color=settings.hide_value,
        num_samples=settings.lime_samples,
        batch_size=settings.batch_size,
        segmentation_fn=lambda _: segments,
        random_seed=0,  # unused: the regions are given
    )
    weights = np.zeros(int(segments.max()) + 1, dtype=np.float32)
    for region, weight in explanation.local_exp[target]:
        weights[region] = weight
    facts = {"r2": float(explanation.score), "segments": len(weights)}
    return Attribution(weights[segments], {"segments": segments}, facts)


def explain_faces(
    model: nn.Module, images: torch.Tensor, targets: Sequence[int], seeds: Sequence[int], settings: config.ExplainLime
) -> list[Attribution]:
    """LIME of each face of a batch N×C×H×W in 0..1."""
    rows = zip(images, targets, seeds, strict=True)
    return [explain_face(model, image, target, settings, seed) for image, target, seed in rows]


def attribute(
    model: nn.Module, images: torch.Tensor, targets: Sequence[int], settings: config.ExplainLime
) -> np.ndarray:
    """Signed LIME weights painted on their regions: images N×C×H×W in 0..1 → float32 N×H×W."""
    seeds = face_seeds(settings.seed, len(images))
    return np.stack([item.map for item in explain_faces(model, images, targets, seeds, settings)])


def describe(settings: config.ExplainLime) -> str:
    """The line of settings under a figure."""
    hidden = "the region's mean" if settings.hide_value is None else f"grey {settings.hide_value:g}"
    return (
        f"LIME: {settings.lime_samples} perturbations, hidden regions filled with {hidden} · quickshift on "
        f"{settings.segmentation_side} px: kernel {settings.kernel_size:g}, max_dist {settings.max_dist:g}, ratio "
        f"{settings.ratio:g} · seed {settings.seed}"
    )


def explain(settings: config.ExplainLime) -> dict[str, Any]:
    """Explains faces of the test split; writes maps, figures and summary and returns the summary."""
    subject = open_run(settings)
    method = Method(
        name="lime",
        output="probability",
        settings={**own_flags(settings), "kernel_width": KERNEL_WIDTH},
        explain=partial(explain_faces, subject.model, settings=settings),
        draw=partial(draw_lime, top_regions=settings.top_regions, run=subject.run.name, footer=describe(settings)),
    )
    return explain_run(subject, method)


def main() -> dict[str, Any]:
    flags = tyro.cli(config.ExplainLime)
    with processes():
        return explain(flags)


if __name__ == "__main__":
    run_script(main)
