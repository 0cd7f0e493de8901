"""Whether default maps hold: LIME's fit, repeatability and intervals, SHAP's error, where HiResCAM and Grad-CAM point.

python benchmarks/bench_maps.py --model fer_resnet_wide --dataset fer2013 --checkpoint fer2013 --json maps.json

Faces of the test split, drawn at random. LIME: medians over faces of the regions, of R² as the map states it (held out)
and of perturbations drawn with another seed, of the eight strongest regions that two seeds share, and of the
correlation of their weights; the share of all weights whose 95 % intervals hold the difference of two seeds, and their
spread over the stated error. SHAP: root mean square error of a map as a share of its own, against a run of many more
samples over the same background, and what the map states of itself. CAM: correlation of both maps over the cells, and
how often their peaks lie in the same cell, and in different quadrants of the face.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.explained_run import RunFlags, open_run
from ferlib.explanations import cam, lime, shap
from ferlib.explanations.binding import provide_cells
from ferlib.explanations.perturbations import Segments, perturbed_faces, predict_perturbations
from ferlib.explanations.subject import Subject
from ferlib.explanations.superpixels import choose_segmentation, segmenter
from ferlib.runtime.files import write_json

TOP = 8  # regions that are compared


@dataclass(frozen=True, kw_only=True)
class Flags(RunFlags):
    """Flags of the benchmark."""

    faces: int = 50
    cam_faces: int = 100
    shap_faces: int = 20
    lime_runs: int = 4  # seeds
    lime_samples: int = 1000
    segmentations: tuple[str, ...] = ("quickshift", "auto", "merged")
    shap_samples: tuple[str, ...] = ("200:100", "260:50")  # samples:background faces
    reference: int = 32  # samples a background face of the run that SHAP is compared with
    seed: int = 1


# ── LIME ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_lime(model: nn.Module, faces: Faces, divide: Segments, flags: Flags) -> dict[str, float]:
    """Medians over the faces, and shares over all weights."""
    rows = [lime_of_face(model, *face, divide, flags) for face in tqdm(list(faces.each()), desc="LIME", leave=False)]
    found = {name: float(np.median([row[name] for row in rows])) for name in rows[0] if name != "inside"}
    return found | {"intervals": float(np.concatenate([row["inside"] for row in rows]).mean())}


def lime_of_face(
    model: nn.Module, image: torch.Tensor, target: np.ndarray, divide: Segments, flags: Flags
) -> dict[str, Any]:
    """Several seeds on the same regions, each compared with the next."""
    assert callable(divide)
    segments = divide(image.permute(1, 2, 0).numpy(), 0)
    runs = list(
        perturbed_faces([image] * flags.lime_runs, [segments] * flags.lime_runs, range(flags.lime_runs), "grey", 7)
    )
    for run in runs:
        run.draw_masks(flags.lime_samples, lime.possible("paired", flags.lime_samples, run))
    predict_perturbations(model, runs, flags.batch_size)
    found = [lime.fit(run, target) for run in runs]
    weights, errors = (
        np.stack([each.weights @ target for each in found]),
        np.stack([each.standard_errors for each in found]),
    )
    tops = [set(np.argsort(-np.abs(row))[:TOP].tolist()) for row in weights]
    pairs = [(one, (one + 1) % len(runs)) for one in range(len(runs))]
    inside = [np.abs(weights[a] - weights[b]) <= 1.96 * np.hypot(errors[a], errors[b]) for a, b in pairs]
    return {
        "regions": weights.shape[1],
        "r2": np.mean([each.r2 for each in found]),
        "r2_other_seed": np.mean([r2_elsewhere(weights[a], runs[b], target) for a, b in pairs]),
        "top_shared": np.median([len(tops[a] & tops[b]) for a, b in pairs]),
        "correlation": np.mean([np.corrcoef(weights[a], weights[b])[0, 1] for a, b in pairs]),
        "spread": np.sqrt(weights.var(0, ddof=1).mean() / np.square(errors).mean()),
        "inside": np.concatenate(inside),
    }


def r2_elsewhere(weights: np.ndarray, run: Any, target: np.ndarray) -> float:
    """Weighted R² of a linear model on perturbations that it was not fitted to; the intercept is free."""
    inner = slice(2, None) if run.sampling == "paired" else slice(1, None)
    masks, outputs = run.masks[inner].astype(float), run.probabilities[inner] @ target
    residuals = outputs - masks @ weights
    importance = lime.proximity(masks)
    rest, total = (np.cov(values, aweights=importance, ddof=0) for values in (residuals, outputs))
    return float(1 - rest / total)


# ── SHAP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_shap(subject: Subject, faces: Faces, samples: int, background_size: int, flags: Flags) -> dict[str, float]:
    """Medians over the faces."""
    model = subject.gradients()
    background = shap.make_background(model, subject.background(background_size), flags.batch_size)
    rows = []
    for image, target in tqdm(list(faces.each())[: flags.shap_faces], desc="SHAP", leave=False):
        weights = torch.from_numpy(target).float()[None]
        options: dict[str, Any] = {"background": background, "batch_size": flags.batch_size}
        (found,) = shap.explain(model, image[None], weights, seeds=[flags.seed], num_samples=samples, **options)
        many = flags.reference * background_size
        (exact,) = shap.explain(model, image[None], weights, seeds=[flags.seed + 1], num_samples=many, **options)
        error = np.sqrt(np.square(found.map - exact.map).mean() / np.square(exact.map).mean())
        rows.append((error, found.facts["sampling_error"], found.facts["background_error"]))
    return dict(zip(("error", "stated", "stated_background"), np.median(rows, axis=0).tolist(), strict=True))


# ── CAM ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_cam(subject: Subject, faces: Faces, flags: Flags) -> dict[str, float]:
    """Grad-CAM against HiResCAM, the positive part of both."""
    model = subject.plain()
    cells = provide_cells({"layer": ""}, subject, model)["cells"]
    images, targets = faces.images[: flags.cam_faces], torch.from_numpy(faces.targets[: flags.cam_faces]).float()
    grids = [
        np.stack(
            [
                each.arrays["grid"].astype(float).clip(min=0)
                for each in cam.explain(model, images, targets, seeds=range(len(images)), kind=kind, cells=cells)
            ]
        )
        for kind in ("hirescam", "gradcam")
    ]
    pairs = list(zip(*grids, strict=True))
    peaks = [[np.unravel_index(grid.argmax(), grid.shape) for grid in pair] for pair in pairs]
    height, width = grids[0].shape[1:]
    quadrants = [[(2 * row // height, 2 * column // width) for row, column in pair] for pair in peaks]
    return {
        "correlation": float(np.nanmedian([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs])),
        "same_peak": float(np.mean([one == other for one, other in peaks])),
        "other_quadrant": float(np.mean([one != other for one, other in quadrants])),
    }


# ── the faces ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Faces:
    """Faces and what is explained of them: the predicted class."""

    images: torch.Tensor  # N,C,H,W
    targets: np.ndarray  # float64 N,7

    def each(self) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """One face after the other."""
        yield from zip(self.images, self.targets, strict=True)

    def first(self, count: int) -> Faces:
        """So many of them."""
        return Faces(self.images[:count], self.targets[:count])


def draw_faces(subject: Subject, flags: Flags) -> Faces:
    """Faces of the test split."""
    test = subject.data.split("test")
    count = max(flags.faces, flags.cam_faces)
    rows = np.sort(np.random.default_rng(flags.seed).permutation(len(test))[:count])
    images = subject.views(test.images[rows])
    with torch.inference_mode():
        labels = torch.cat([subject.plain()(part).argmax(1) for part in images.split(flags.batch_size)])
    order = np.random.default_rng(flags.seed).permutation(count)
    return Faces(images[order], np.eye(7)[labels.numpy()[order]])


def show(title: str, row: dict[str, float]) -> None:
    """One line of the table."""
    print(f"{title:<34}" + "  ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, and returns what was measured."""
    flags = tyro.cli(Flags, args=arguments)
    subject = open_run(flags)
    faces, side = draw_faces(subject, flags), subject.spec.image_size
    share = side / subject.spec.scaled_size
    found: dict[str, Any] = {"faces": flags.faces, "side": side}
    for name in flags.segmentations:
        divide = segmenter(name, share=share, **({"regions": 64} if name in ("slic", "grid") else {}))
        row = measure_lime(subject.forward(flags.lime_samples), faces.first(flags.faces), divide, flags)
        found[f"lime {name}"] = row
        show(f"LIME {name} ({choose_segmentation(name, side)}), {flags.lime_samples}", row)
    for words in flags.shap_samples:
        samples, background = map(int, words.split(":"))
        found[f"shap {words}"] = measure_shap(subject, faces, samples, background, flags)
        show(f"SHAP {samples} samples, {background} faces", found[f"shap {words}"])
    found["cam"] = measure_cam(subject, faces, flags)
    show("Grad-CAM against HiResCAM", found["cam"])
    if flags.json:
        write_json(flags.json, found)
    return found


if __name__ == "__main__":
    main()
