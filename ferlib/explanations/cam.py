"""Class activation maps: Grad-CAM, Grad-CAM++, HiResCAM, LayerCAM, Eigen-CAM, Score-CAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import face_seeds, target_weights
from ferlib.runtime.errors import UserError, lookup

USUAL_CHANNELS = 512  # of the last layers of most networks


def cam(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    layer: nn.Module,
    kind: str = "hirescam",
    to_grid: Callable[[torch.Tensor], torch.Tensor] | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Maps of a method of KINDS: float32 N×H×W in 0..1, 1 being each face's peak; of SIGNED ones as they are.

    model: images N×C×H×W in 0..1 → logits N×K. targets: classes N, or weights N×K of the logits. layer: the module
    whose output is read, N×C×h×w, or made so by `to_grid` (tokens, channels last). UserError for unknown kinds and for
    outputs without rows and columns.
    """
    seeds = face_seeds(0, len(images))
    cells = Cells(layer, to_grid)
    found = explain(model, images, targets, seeds=seeds, kind=kind, cells=cells, batch_size=batch_size)
    return maps_of(found)


# ── what is read of a layer ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Cells:
    """A layer, and the map that makes a grid of its output where that is tokens or has its channels last."""

    layer: nn.Module
    to_grid: Callable[[torch.Tensor], torch.Tensor] | None = None
    name: str = ""

    def grid(self, output: torch.Tensor) -> torch.Tensor:
        """The layer's output, or its gradient, as N×C×h×w; UserError if it has no rows and columns."""
        grid = self.to_grid(output) if self.to_grid else output
        if grid.ndim != 4:
            raise UserError(f"--layer: an output of shape {tuple(output.shape)} has no rows and columns of cells")
        return grid


def forward_from(model: nn.Module, layer: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's output in float32, a leaf of the graph, and the logits N×K computed from it.

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
    model: nn.Module,
    cells: Cells,
    images: torch.Tensor,
    targets: torch.Tensor,
    batch_size: int,  # noqa: ARG001 — images are one batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations N×C×h×w, and at each of them the derivative of the target's logit."""
    with torch.enable_grad():
        output, logits = forward_from(model, cells.layer, images)
        (gradients,) = torch.autograd.grad((logits * targets).sum(), output)
    return cells.grid(output.detach()), cells.grid(gradients)


@torch.no_grad()
def read_activations(
    model: nn.Module,
    cells: Cells,
    images: torch.Tensor,
    targets: torch.Tensor,  # noqa: ARG001 — activations do not depend on it
    batch_size: int,  # noqa: ARG001 — images are one batch
) -> tuple[torch.Tensor]:
    """Activations N×C×h×w alone."""
    return (cells.grid(forward_from(model, cells.layer, images)[0].detach()),)


@torch.no_grad()
def read_scores(
    model: nn.Module,
    cells: Cells,
    images: torch.Tensor,
    targets: torch.Tensor,
    batch_size: int,
    passes: nn.Module | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations N×C×h×w, and N×C: the target's logit of the image masked by each channel, scaled to 0..1.

    passes: computes the logits of masked images; default: the model itself.
    """
    (activations,) = read_activations(model, cells, images, targets, batch_size)
    pairs = torch.arange(activations[:, :, 0, 0].numel(), device=images.device)
    scores = []
    for pair in pairs.split(batch_size):
        face = pair // activations.shape[1]
        faces = images[face] * make_masks(activations.flatten(0, 1)[pair], images.shape[-2:])
        logits = (passes or model)(faces.contiguous(memory_format=torch.channels_last))
        scores.append((logits * targets[face]).sum(1))
    return activations, torch.cat(scores).view(activations.shape[:2])


def make_masks(channels: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """M×h×w → M×1×H×W, each scaled to 0..1; the centres of the outer cells lie on the border, as in grad-cam."""
    masks = F.interpolate(channels[:, None], tuple(size), mode="bilinear", align_corners=True)
    low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
    return (masks - low) / (high - low + 1e-8)


# ── the formulas: activations N×C×h×w and what else was read → N×h×w, of which the positive part is the map ──────────


def gradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Channels weighted by their mean gradient.

    Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization" (2017),
    equations 1 and 2.
    """
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1)


def gradcam_plus_plus(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Channels weighted by the sum of their positive gradients g, each times α = g² / (2 g² + g³ ΣA).

    Chattopadhay et al., "Grad-CAM++: Improved visual explanations for deep convolutional networks" (2018), equation 19,
    for the exponential of the logit. α is divided by g² here, where grad-cam adds 1e-6 to its denominator and so
    reduces the weight of channels whose gradients are below 1e-3.
    """
    sums = activations.sum((2, 3), keepdim=True)
    weights = torch.where(gradients > 0, gradients / (2 + gradients * sums), 0).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1)


def hirescam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Activations times gradients, summed over the channels.

    Draelos & Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks"
    (2020), section 3. Exact where the layer feeds a linear one: the sum is then the logit without its bias.
    """
    return (gradients * activations).sum(1)


def layercam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Activations times positive gradients, summed over the channels.

    Jiang et al., "LayerCAM: Exploring hierarchical class activation maps for localization" (2021), section III.
    """
    return (gradients.relu() * activations).sum(1)


def eigencam(activations: torch.Tensor) -> torch.Tensor:
    """Projection of the cells on their first principal component; independent of the class.

    Muhammad & Yeasin, "Eigen-CAM: Class activation map using principal components" (2020), section III; centred, as in
    grad-cam. The sign of a component is arbitrary: here it grows with the mean activation of a cell.
    """
    cells = activations.flatten(2).mT  # N,h·w,C
    centered = cells - cells.mean(1, keepdim=True)
    left, singular, _ = torch.linalg.svd(centered, full_matrices=False)
    projection = left[..., 0] * singular[:, :1]
    sign = torch.where((projection * centered.mean(2)).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return (sign * projection).view(len(activations), *activations.shape[2:])


def scorecam(activations: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Channels weighted by the softmax of the logits of the images that they mask.

    Wang et al., "Score-CAM: Score-weighted visual explanations for convolutional neural networks" (2020), section 3;
    the logit of the baseline, which they subtract, cancels in the softmax.
    """
    return (scores.softmax(1)[..., None, None] * activations).sum(1)


KINDS: dict[str, tuple[Callable[..., tuple[torch.Tensor, ...]], Callable[..., torch.Tensor]]] = {  # reader, formula
    "hirescam": (read_gradients, hirescam),
    "gradcam": (read_gradients, gradcam),
    "gradcam_plus_plus": (read_gradients, gradcam_plus_plus),
    "layercam": (read_gradients, layercam),
    "eigencam": (read_activations, eigencam),
    "scorecam": (read_scores, scorecam),
}
SIGNED = ("hirescam",)  # whose cells are shares of the logit


# ── explaining ───────────────────────────────────────────────────────────────────────────────────────────────────────


def explain(
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seeds: Sequence[int],  # noqa: ARG001 — nothing is random here
    kind: str,
    cells: Cells,
    batch_size: int = 64,
    **reading: Any,
) -> list[Attribution]:
    """As `cam`, an attribution per face. reading: further keywords of the method's reader.

    The array "grid" is the map before it was upsampled bilinearly, h×w. A map of a SIGNED method has the unit of the
    target's logit, and the fact "cells_sum" is the sum of its cells. Others are 0 where there is no evidence and 1 at
    the face's own peak, whose value is the fact "peak"; a map without evidence is 0 everywhere.
    """
    read, formula = lookup(KINDS, kind, "class activation map")
    weights = target_weights(model, images, targets).to(images.device)
    batches = zip(images.split(batch_size), weights.split(batch_size), strict=True)
    grids = torch.cat([formula(*read(model, cells, *batch, batch_size, **reading)) for batch in batches])
    if kind in SIGNED:
        facts = [{"cells_sum": total} for total in grids.double().sum((1, 2)).tolist()]
        maps, shown = upsample(grids, images.shape[-2:]).cpu().numpy(), grids.cpu().numpy()
    else:
        facts = [{"peak": peak} for peak in grids.relu().amax((1, 2)).tolist()]
        maps, shown = to_unit(upsample(grids.relu(), images.shape[-2:])), to_unit(grids.relu())
    rows = zip(maps, shown.astype(np.float16), facts, strict=True)
    return [Attribution(values, {"grid": grid}, each) for values, grid, each in rows]


def count_passes(_image_size: int, **_: Any) -> int:
    """Forward passes of single images that Score-CAM takes a face: one for each channel of its layer."""
    return USUAL_CHANNELS


def upsample(grids: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """N×h×w → N×H×W, bilinearly."""
    return F.interpolate(grids[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def to_unit(maps: torch.Tensor) -> np.ndarray:
    """N×h×w ≥ 0, each divided by its largest value unless that is 0."""
    peaks = maps.amax((1, 2), keepdim=True)
    return (maps / torch.where(peaks > 0, peaks, 1)).cpu().numpy()
