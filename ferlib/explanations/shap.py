"""SHAP by expected gradients: Shapley values of a face's pixels for every logit.

Erion et al., "Improving performance of deep learning models with axiomatic attribution priors and expected gradients"
(2021), equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from ferlib.explanations.maps import sum_blocks
from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import face_seeds, target_weights
from ferlib.inference.class_gradients import class_gradients
from ferlib.runtime.seeds import combine_seeds

PER_FACE = 5  # samples of a background face: a sampling error of less than 20 % for the shipped network
GROUPS = 4  # of a face's samples: halves of them, and halves of the background
WHOLE_SIDE = 64  # maps of all classes are saved as they are up to this side, larger ones as sums over blocks


def shap(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    background: torch.Tensor,
    num_samples: int | Literal["auto"] = "auto",
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


def count_samples(num_samples: int | Literal["auto"], background_size: int) -> int:
    """Samples of a face."""
    return PER_FACE * background_size if num_samples == "auto" else num_samples


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
    """
    halves = [
        Halves(each, np.zeros(len(each.rows), np.int64), np.full(len(each.rows), 1 / len(each.rows)))
        for each in samples
    ]
    return sum_gradients(model, images, background, halves, batch_size).sum(1)


def sum_gradients(
    model: nn.Module,
    images: torch.Tensor,
    background: torch.Tensor,
    halves: Sequence[Halves],
    batch_size: int,
) -> torch.Tensor:
    """What `expected_gradients` averages, weighted and summed over each face's groups of samples: float32 N×4×K×H×W.

    One forward pass serves the K backward passes of a batch, which holds samples of several faces.
    """
    groups, samples = np.concatenate([each.groups for each in halves]), [each.samples for each in halves]
    device = images.device
    faces = torch.from_numpy(np.repeat(np.arange(len(images)), [len(each.rows) for each in samples])).to(device)
    rows = torch.from_numpy(np.concatenate([each.rows for each in samples])).to(device)
    shares = torch.from_numpy(np.concatenate([each.shares for each in samples])).float().to(device)
    weights = torch.from_numpy(np.concatenate([each.weights for each in halves])).float().to(device)
    places = faces * GROUPS + torch.from_numpy(groups).to(device)
    sums: torch.Tensor | None = None
    parts = (values.split(batch_size) for values in (faces, rows, shares, weights, places))
    for face, row, share, weight, place in zip(*parts, strict=True):
        others = background[row]
        differences = images[face] - others
        inputs = torch.addcmul(others, share.view(-1, 1, 1, 1), differences)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        weighted = differences * weight.view(-1, 1, 1, 1)
        products = [(gradients * weighted).sum(1) for gradients in class_gradients(model, inputs)]
        if sums is None:
            sums = torch.zeros(len(images) * GROUPS, len(products), *images.shape[-2:], device=device)
        for label, product in enumerate(products):
            sums[:, label].index_add_(0, place, product)
    assert sums is not None, "num_samples is at least 1"
    return sums.unflatten(0, (len(images), GROUPS))


def explain(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],
    background: Background,
    num_samples: int | Literal["auto"] = "auto",
    batch_size: int = 64,
) -> list[Attribution]:
    """As `shap`, an attribution per face with one seed each; num_samples "auto": PER_FACE a background face.

    The values of a class sum to f(x) − mean f(x') up to the error of sampling: the facts hold for every class by how
    much its logit exceeds its mean over the background, and the sum's difference from that (completeness gap), which
    does not bound the errors of single pixels. These are estimated for the target's map: "sampling_error" is the root
    mean square of its error as a share of its own, from two independent halves of the samples, each over the whole
    background; "background_error" the same from two halves of the background, so it also holds how much other faces in
    their place would change it. None with too few samples. The array "class_maps" holds the values of all classes, as
    sums over blocks where a side exceeds WHOLE_SIDE.
    """
    num_samples = count_samples(num_samples, len(background.images))
    drawn = [draw_halves(num_samples, len(background.images), seed) for seed in seeds]
    sums = sum_gradients(model, images, background.images, drawn, batch_size).cpu()
    weights = target_weights(model, images, targets)
    rises = predict_logits(model, images, batch_size).numpy() - background.logits
    found = []
    for each, own, target, rise in zip(drawn, sums, weights, rises, strict=True):
        errors = estimate_errors(torch.einsum("gkhw,k->ghw", own, target.float()).numpy(), each.totals())
        found.append(make_attribution(own.sum(0).numpy(), target.numpy(), rise, errors))
    return found


@dataclass(frozen=True)
class Halves:
    """Samples in two independent halves, each of them over two halves of the background: 0, 1 and 2, 3."""

    samples: PathSamples
    groups: np.ndarray  # int64 samples
    weights: np.ndarray  # float64 samples, of sum 1: equal for background faces, however often one is sampled

    def totals(self) -> np.ndarray:
        """float64 4: the weight of each group."""
        return np.bincount(self.groups, self.weights, minlength=GROUPS)


def draw_halves(num_samples: int, background_size: int, seed: int) -> Halves:
    """Samples of a face; the groups depend on the seed, as do the samples."""
    sizes = (num_samples // 2, num_samples - num_samples // 2)
    parts = [
        sample_paths(size, background_size, combine_seeds(seed, number)) for number, size in enumerate(sizes) if size
    ]
    rows = np.concatenate([part.rows for part in parts])
    side = np.random.default_rng(combine_seeds(seed, 2)).permutation(background_size) % 2
    half = np.repeat([number for number, size in enumerate(sizes) if size], [size for size in sizes if size])
    weights = np.concatenate([len(part.rows) / num_samples * balance(part.rows, background_size) for part in parts])
    return Halves(PathSamples(rows, np.concatenate([part.shares for part in parts])), 2 * half + side[rows], weights)


def balance(rows: np.ndarray, background_size: int) -> np.ndarray:
    """Weights of samples, of sum 1: equal for background faces where each is sampled, else for samples."""
    times = np.bincount(rows, minlength=background_size)
    return 1 / (background_size * times[rows]) if times.all() else np.full(len(rows), 1 / len(rows))


def estimate_errors(sums: np.ndarray, totals: np.ndarray) -> dict[str, float | None]:
    """The errors of a map as shares of its own root mean square, from the weighted sums 4×H×W of its groups of samples.

    totals: the weights' sums. The standard error of the mean of two independent halves is half their difference.
    """
    whole = sums.sum(0)
    pairs = {"sampling_error": ([0, 1], [2, 3]), "background_error": ([0, 2], [1, 3])}
    errors: dict[str, float | None] = {}
    for name, (one, other) in pairs.items():
        if not totals[one].sum() or not totals[other].sum():
            errors[name] = None
            continue
        first, second = (sums[groups].sum(0) / totals[groups].sum() for groups in (one, other))
        size = np.square(whole).mean()
        errors[name] = float(np.sqrt(np.square(first - second).mean() / 4 / size)) if size else 0.0
    return errors


def make_attribution(
    maps: np.ndarray, target: np.ndarray, rise: np.ndarray, errors: dict[str, float | None]
) -> Attribution:
    """The attribution of a face from its maps K×H×W."""
    gap = maps.astype(np.float64).sum((1, 2)) - rise
    facts = {
        **errors,
        "logit_above_background": float(rise @ target),
        "completeness_gap": float(gap @ target),
        "logits_above_background": rise.tolist(),
        "completeness_gaps": gap.tolist(),
    }
    whole = max(maps.shape[1:]) <= WHOLE_SIDE
    class_maps = maps if whole else np.stack([sum_blocks(values)[0] for values in maps])
    return Attribution(np.tensordot(target, maps, 1), {"class_maps": class_maps.astype(np.float16)}, facts)
