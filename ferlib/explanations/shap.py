"""SHAP by expected gradients: Shapley values of a face's pixels for every logit.

Erion et al., "Improving performance of deep learning models with axiomatic attribution priors and expected gradients"
(2021), equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ferlib.explanations.maps import sum_blocks
from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import face_seeds, target_weights
from ferlib.inference.class_gradients import class_gradients

WHOLE_SIDE = 64  # maps of all classes are saved as they are up to this side, larger ones as sums over blocks


def shap(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    background: torch.Tensor,
    num_samples: int = 200,
    seed: int = 0,
    batch_size: int = 64,
) -> np.ndarray:
    """Signed Shapley values of the target's logit, summed over the colours: float32 N×H×W.

    model: images N×C×H×W in 0..1 → logits N×K. targets: classes N, or weights N×K of the logits. background: images
    M×C×H×W that the faces are compared with.
    """
    found = explain(
        model,
        images,
        targets,
        seeds=face_seeds(seed, len(images)),
        background=make_background(model, background, batch_size),
        num_samples=num_samples,
        batch_size=batch_size,
    )
    return maps_of(found)


@dataclass(frozen=True)
class Background:
    """The faces that a face is compared with."""

    images: torch.Tensor  # float32 M,C,H,W in 0..1
    logits: np.ndarray  # float64 K: the model's mean over them


@dataclass(frozen=True)
class PathSamples:
    """Where the gradients of a face are taken: points between background faces and the face."""

    rows: np.ndarray  # int64 samples: which background face
    shares: np.ndarray  # float samples: 0 at the background face, 1 at the face


def make_background(model: nn.Module, images: torch.Tensor, batch_size: int) -> Background:
    """The background of images M×C×H×W."""
    return Background(images, predict_logits(model, images, batch_size).mean(0).numpy())


@torch.inference_mode()
def predict_logits(model: nn.Module, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """float64 N×K on the CPU."""
    return torch.cat([model(batch).cpu().double() for batch in images.split(batch_size)])


def sample_paths(num_samples: int, background_size: int, seed: int) -> PathSamples:
    """Samples balanced over the background faces, at equal distances on the path from each of them to the face.

    Every background face is used as often as any other, give or take once; the samples of one divide its path into
    equal parts (systematic sampling: Cochran, "Sampling Techniques", 1977, chapter 8), and the position of the first is
    stratified over the faces. Gradients change slowly along a path, so their mean varies less than with independent
    samples.
    """
    rng = np.random.default_rng(seed)
    times, more = divmod(num_samples, background_size)
    faces = rng.permutation(background_size)
    groups = (faces[:more], times + 1), (faces[more:], times)
    parts = [divide_paths(chosen, count, rng) for chosen, count in groups if count and len(chosen)]
    rows, shares = zip(*parts, strict=True)
    return PathSamples(np.concatenate(rows), np.concatenate(shares))


def divide_paths(faces: np.ndarray, times: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`times` samples of each face: rows and shares, one share in each of faces × times equal parts of 0..1."""
    starts = (rng.permutation(len(faces)) + rng.random(len(faces))) / len(faces)
    return np.tile(faces, times), ((starts + np.arange(times)[:, None]) / times).ravel()


def expected_gradients(
    model: nn.Module, images: torch.Tensor, background: torch.Tensor, samples: Sequence[PathSamples], batch_size: int
) -> torch.Tensor:
    """Shapley values of all logits, summed over the colours: faces N×C×H×W → float32 N×K×H×W on the device.

    Erion et al. 2021, equation 3: the mean over background faces x' and shares α of (x − x') · ∂f(x' + α (x − x'))/∂x.
    One forward pass serves the K backward passes of a batch, which holds samples of several faces.
    """
    counts = [len(each.rows) for each in samples]
    faces = torch.from_numpy(np.repeat(np.arange(len(images)), counts)).to(images.device)
    rows = torch.from_numpy(np.concatenate([each.rows for each in samples])).to(images.device)
    shares = torch.from_numpy(np.concatenate([each.shares for each in samples])).float().to(images.device)
    sums: torch.Tensor | None = None
    for face, row, share in zip(*(values.split(batch_size) for values in (faces, rows, shares)), strict=True):
        others = background[row]
        differences = images[face] - others
        inputs = torch.addcmul(others, share.view(-1, 1, 1, 1), differences)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        products = [(gradients * differences).sum(1) for gradients in class_gradients(model, inputs)]
        if sums is None:
            sums = torch.zeros(len(images), len(products), *images.shape[-2:], device=images.device)
        for label, product in enumerate(products):
            sums[:, label].index_add_(0, face, product)
    assert sums is not None, "num_samples is at least 1"
    return sums / torch.bincount(faces, minlength=len(images)).view(-1, 1, 1, 1)


def explain(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    background: Background,
    num_samples: int = 200,
    batch_size: int = 64,
) -> list[Attribution]:
    """As `shap`, an attribution per face with one seed each.

    The values of a class sum to f(x) − mean f(x') up to the error of sampling: the facts hold for every class by how
    much its logit exceeds its mean over the background, and the sum's difference from that (completeness gap). The
    array "class_maps" holds the values of all classes, as sums over blocks where a side exceeds WHOLE_SIDE.
    """
    samples = [sample_paths(num_samples, len(background.images), seed) for seed in seeds]
    values = expected_gradients(model, images, background.images, samples, batch_size)
    rises = predict_logits(model, images, batch_size).numpy() - background.logits
    gaps = values.double().sum((2, 3)).cpu().numpy() - rises
    rows = zip(values.cpu().numpy(), target_weights(model, images, targets).numpy(), rises, gaps, strict=True)
    return [make_attribution(*row) for row in rows]


def make_attribution(maps: np.ndarray, target: np.ndarray, rise: np.ndarray, gap: np.ndarray) -> Attribution:
    """The attribution of a face from its maps K×H×W."""
    facts = {
        "logit_above_background": float(rise @ target),
        "completeness_gap": float(gap @ target),
        "logits_above_background": rise.tolist(),
        "completeness_gaps": gap.tolist(),
    }
    whole = max(maps.shape[1:]) <= WHOLE_SIDE
    class_maps = maps if whole else np.stack([sum_blocks(values)[0] for values in maps])
    return Attribution(np.tensordot(target, maps, 1), {"class_maps": class_maps.astype(np.float16)}, facts)
