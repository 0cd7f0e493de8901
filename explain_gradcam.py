"""Class activation maps: which cells of a layer speak for an expression; Grad-CAM and five of its kin.

python explain_gradcam.py --model resnet50 --dataset fer2013 --samples 20 --method gradcam
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import config
from ferlib.explanations.driver import Method, explain_run, face_seeds, own_flags, run_explainer
from ferlib.explanations.records import Attribution
from ferlib.explanations.subject import Subject, open_run
from ferlib.figures.heatmaps import QUESTION, draw_heatmap
from ferlib.runtime.errors import UserError, lookup, run_script

# ── what is read of a layer ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Cells:
    """A layer, and the map that makes a grid of its output where that is tokens or has its channels last."""

    layer: nn.Module
    to_grid: Callable[[torch.Tensor], torch.Tensor] | None = None

    def grid(self, output: torch.Tensor) -> torch.Tensor:
        """The layer's output, or its gradient, as N×C×h×w; UserError if it has no rows and columns."""
        grid = self.to_grid(output) if self.to_grid else output
        if grid.ndim != 4:
            raise UserError(f"--layer: an output of shape {tuple(output.shape)} has no rows and columns of cells")
        return grid


def watch(model: nn.Module, layer: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's output in float32, and the logits N×7, whose gradients end at this output.

    So a backward pass goes through what follows the layer only.
    """
    kept = []

    def keep(_module: nn.Module, _inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().float().requires_grad_())
        return kept[-1].to(output.dtype, copy=True)  # what follows may work in place

    handle = layer.register_forward_hook(keep)
    try:
        logits = model(images)
    finally:
        handle.remove()
    (output,) = kept
    return output, logits


def read_gradients(
    model: nn.Module, cells: Cells, images: torch.Tensor, targets: torch.Tensor, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations N×C×h×w, and at each of them the derivative of the explained logit."""
    with torch.enable_grad():
        output, logits = watch(model, cells.layer, images)
        (gradients,) = torch.autograd.grad((logits * targets).sum(), output)
    return cells.grid(output.detach()), cells.grid(gradients)


@torch.no_grad()
def read_activations(
    model: nn.Module, cells: Cells, images: torch.Tensor, targets: torch.Tensor, batch_size: int
) -> tuple[torch.Tensor]:
    """Activations N×C×h×w alone."""
    return (cells.grid(watch(model, cells.layer, images)[0].detach()),)


@torch.no_grad()
def read_scores(
    model: nn.Module, cells: Cells, images: torch.Tensor, targets: torch.Tensor, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations N×C×h×w, and N×C: the explained logit of the face under each channel as a mask in 0..1."""
    (activations,) = read_activations(model, cells, images, targets, batch_size)
    pairs = torch.arange(activations[:, :, 0, 0].numel(), device=images.device)
    scores = []
    for pair in pairs.split(batch_size):
        face = pair // activations.shape[1]
        faces = images[face] * make_masks(activations.flatten(0, 1)[pair], images.shape[-2:])
        logits = model(faces.contiguous(memory_format=torch.channels_last))
        scores.append((logits * targets[face]).sum(1))
    return activations, torch.cat(scores).view(activations.shape[:2])


def make_masks(channels: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """M×h×w → M×1×H×W, each stretched to 0..1; the outer cells' centres lie on the border, as in grad-cam."""
    masks = F.interpolate(channels[:, None], size, mode="bilinear", align_corners=True)
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    return (masks - low) / (high - low + 1e-8)


# ── the methods: activations N×C×h×w and what else was read → N×h×w, of which the positive part is the map ───────────


def gradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Channels weighted by their mean gradient.

    Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization" (2017),
    equations 1 and 2.
    """
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1)


def gradcam_plus_plus(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Channels weighted by the sum of their positive gradients g, each times α = g² / (2 g² + g³ ΣA).

    Chattopadhay et al., "Grad-CAM++: Improved visual explanations for deep convolutional networks" (2018), equation 19,
    for the exponential of the logit. We divide α by g², where grad-cam adds 1e-6 to its denominator and so takes weight
    from channels whose gradients are below 1e-3.
    """
    sums = activations.sum((2, 3), keepdim=True)
    weights = torch.where(gradients > 0, gradients / (2 + gradients * sums), 0).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1)


def hirescam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Activations times gradients, summed over the channels.

    Draelos & Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks"
    (2020), section 3. Exact where the layer's cells go straight into a linear one: the sum is the logit's share.
    """
    return (gradients * activations).sum(1)


def layercam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Activations times positive gradients, summed over the channels.

    Jiang et al., "LayerCAM: Exploring hierarchical class activation maps for localization" (2021), section III. Of use
    in earlier, finer layers too.
    """
    return (gradients.relu() * activations).sum(1)


def eigencam(activations: torch.Tensor) -> torch.Tensor:
    """Projection of the cells on their first principal component; knows nothing of classes.

    Muhammad & Yeasin, "Eigen-CAM: Class activation map using principal components" (2020), section III; centred, as in
    grad-cam. A component has no sign of its own: ours is the one that grows with the mean activation of a cell.
    """
    cells = activations.flatten(2).mT  # N,h·w,C
    centered = cells - cells.mean(1, keepdim=True)
    left, singular, _ = torch.linalg.svd(centered, full_matrices=False)
    projection = left[..., 0] * singular[:, :1]
    sign = torch.where((projection * centered.mean(2)).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return (sign * projection).view(len(activations), *activations.shape[2:])


def scorecam(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Channels weighted by the softmax of the logits of the faces that they mask.

    Wang et al., "Score-CAM: Score-weighted visual explanations for convolutional neural networks" (2020), section 3;
    the logit of the baseline, which they take off, cancels in the softmax.
    """
    return (scores.softmax(1)[..., None, None] * activations).sum(1)


@dataclass(frozen=True)
class Cam:
    """A method of the family."""

    name: str  # of its folder
    title: str
    read: Callable[..., tuple[torch.Tensor, ...]]
    formula: Callable[..., torch.Tensor]
    faces_per_call: int = 64
    question: str = QUESTION
    meaning: str = "bright: speaks for the class"


CAMS = {
    "gradcam": Cam("gradcam", "Grad-CAM", read_gradients, gradcam),
    "gradcam++": Cam("gradcam_plus_plus", "Grad-CAM++", read_gradients, gradcam_plus_plus),
    "hirescam": Cam("hirescam", "HiResCAM", read_gradients, hirescam),
    "layercam": Cam("layercam", "LayerCAM", read_gradients, layercam),
    "eigencam": Cam(
        "eigencam",
        "Eigen-CAM",
        read_activations,
        eigencam,
        question="shown: what stands out",
        meaning="bright: stands out, whatever the class",
    ),
    "scorecam": Cam("scorecam", "Score-CAM", read_scores, scorecam, faces_per_call=1),
}


# ── explaining ───────────────────────────────────────────────────────────────────────────────────────────────────────


def explain_faces(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    seeds: Sequence[int],
    settings: config.ExplainGradcam,
    cells: Cells,
) -> list[Attribution]:
    """Maps in 0..1 of faces N×C×H×W in 0..1 for the target weights N×7; nothing is drawn from the seeds.

    0 stands for no evidence, 1 for a face's own peak, which the facts give; a map without evidence is 0 everywhere. The
    array "grid" is the map before it was scaled up bilinearly, h×w.
    """
    cam = CAMS[settings.method]
    size, batch_size = images.shape[-2:], settings.batch_size
    batches = zip(images.split(batch_size), targets.split(batch_size), strict=True)
    grids = torch.cat([cam.formula(*cam.read(model, cells, *batch, batch_size)) for batch in batches]).relu()
    maps = F.interpolate(grids[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    rows = zip(to_unit(maps), to_unit(grids).astype(np.float16), grids.amax((1, 2)).tolist(), strict=True)
    return [Attribution(values, {"grid": grid}, {"peak": peak}) for values, grid, peak in rows]


def to_unit(maps: torch.Tensor) -> np.ndarray:
    """N×h×w ≥ 0, each divided by its largest value unless that is 0."""
    peaks = maps.amax((1, 2), keepdim=True)
    return (maps / torch.where(peaks > 0, peaks, 1)).cpu().numpy()


def attribute(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    settings: config.ExplainGradcam,
    cells: Cells,
) -> np.ndarray:
    """Maps in 0..1 of the target: images N×C×H×W in 0..1, targets N×7 → float32 N×H×W."""
    seeds = face_seeds(settings.seed, len(images))
    return np.stack([item.map for item in explain_faces(model, images, targets, seeds, settings, cells)])


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def find_cells(subject: Subject, path: str) -> Cells:
    """The cells of the classifier's module at `path`; UserError that lists the valid ones."""
    return Cells(lookup(dict(subject.model.classifier.named_modules()), path, "layer"), subject.spec.to_grid)


def describe(settings: config.ExplainGradcam, layer: str) -> str:
    """The line of settings under a figure."""
    cam = CAMS[settings.method]
    return f"{cam.title}: cells of {layer}, scaled up bilinearly · 1: the peak in this face, 0: nothing, or against"


def explain(settings: config.ExplainGradcam) -> dict[str, Any]:
    """Explains the chosen faces; writes maps, figures and summary and returns the summary."""
    cam = CAMS[settings.method]
    subject = open_run(settings)
    layer = settings.layer or subject.spec.cam_layer
    look = {"question": cam.question, "meaning": cam.meaning, "unit": "share of the peak", "signed": False}
    method = Method(
        name=cam.name,
        output="logit",
        settings={**own_flags(settings), "layer": layer},
        explain=partial(explain_faces, subject.model, settings=settings, cells=find_cells(subject, layer)),
        draw=partial(
            draw_heatmap, method_title=cam.title, run=subject.run.name, footer=describe(settings, layer), **look
        ),
        faces_per_call=cam.faces_per_call,
    )
    return explain_run(subject, method)


def main() -> dict[str, Any]:
    return run_explainer(config.ExplainGradcam, explain)


if __name__ == "__main__":
    run_script(main)
