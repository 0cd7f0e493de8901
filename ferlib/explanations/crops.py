"""Explanations of faces cropped from photos and frames, by the methods of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from config import EMOTIONS
from ferlib.data.synthetic.faces import draw_faces
from ferlib.explanations.binding import bind, provide_face_regions
from ferlib.explanations.cam import Cells, forward_from, hirescam, to_unit, upsample
from ferlib.explanations.methods import find_method
from ferlib.explanations.records import Attribution, maps_of
from ferlib.explanations.targets import face_seeds
from ferlib.faces.face_model import FaceModel
from ferlib.networks.specs import ModelSpec

SMALLEST_DRAWN = 48  # pixels: side below which drawn faces are scaled down
SHORT = 16  # images in a pass between which other threads take their turn with the model


@dataclass(frozen=True)
class CropNetwork:
    """A FaceModel as the `binding.Network` of methods; drawn faces are the background: a photo has no train split."""

    model: FaceModel
    batch_size: int = 64

    @property
    def spec(self) -> ModelSpec:
        """The specification of its network."""
        return self.model.spec

    def plain(self) -> nn.Module:
        """Images → logits, as it was trained."""
        return self.model.plain

    def forward(self, passes: int) -> nn.Module:  # noqa: ARG002 — a few faces are not worth compiling for
        """The same by the model's engine."""
        return self.model.passes

    def gradients(self) -> nn.Module:
        """The same with batch norms folded."""
        return self.model.fast

    @property
    def has_faces(self) -> bool:
        """Drawn ones."""
        return True

    def background(self, count: int) -> torch.Tensor:
        """Drawn faces of all expressions in turn."""
        return self.model.views(draw_background(count, self.model.crop_size))

    def faces_of(self, label: int, count: int) -> None:
        """None: a photo has no train split."""


def explain_crops(*given: Any, **settings: Any) -> np.ndarray:
    """The maps of explain_faces, float32 N×S×S; an empty array where there are no crops."""
    found = explain_faces(*given, **settings)
    crops: np.ndarray = given[1]
    return maps_of(found) if found else np.zeros((0, *crops.shape[1:3]), np.float32)


def explain_faces(
    model: FaceModel,
    crops: np.ndarray,
    method: str,
    targets: Sequence[int] | None = None,
    *,
    seed: int = 0,
    batch_size: int = 64,
    **settings: Any,
) -> list[Attribution]:
    """Attributions of a row of METHODS for crops uint8 N×S×S×3, with maps float32 S×S, signed where the method is.

    targets: the class to explain of each face, by default the predicted one. settings: of the method, by name or by
    flag. UserError for unknown methods, settings and values.
    """
    row = find_method(method)
    values = row.complete(settings)
    if not len(crops):
        return []
    labels = model.probabilities(crops).argmax(1) if targets is None else np.asarray(targets)
    with model.lock, torch.inference_mode(False):
        explain = bind(row, values, CropNetwork(model, batch_size))
        weights = torch.eye(len(EMOTIONS))[labels].to(model.device)
        found = explain(model.views(crops), weights, face_seeds(seed, len(crops)))
        maps = model.to_crops(maps_of(found), crops.shape[1], summed=row.summed)
    return [replace(each, map=values) for each, values in zip(found, maps, strict=True)]


class Turns(nn.Module):
    """A FaceModel's forward passes, each of which holds its lock: other threads use the model in between."""

    def __init__(self, model: FaceModel):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits N×7 of images N×C×H×W in 0..1."""
        with self.model.lock:
            logits: torch.Tensor = self.model.passes(images)
            return logits


ExplainRegions = Callable[[np.ndarray, Sequence[int]], list[dict[str, float]]]


def region_explainer(model: FaceModel, batch_size: int = SHORT) -> ExplainRegions:
    """A function of crops uint8 N×S×S×3 and classes N: region → exact Shapley value, for each face.

    The values are those of explain_faces(…, "regions") with its default settings, by 2¹⁰ forward passes a face:
    without counterfactuals, and without the other fills, which only show how much the values depend on the fill.
    """
    row = find_method("regions")
    values = row.complete({"counterfactual": "none"})
    passes, fill = Turns(model), values["baseline"]
    given = provide_face_regions(values, CropNetwork(model, batch_size), passes)
    given["fills"] = {fill: given["fills"][fill]}
    explain = row.load()

    def explain_regions(crops: np.ndarray, targets: Sequence[int]) -> list[dict[str, float]]:
        weights = torch.eye(len(EMOTIONS))[list(targets)].to(model.device)
        found = explain(passes, model.views(crops), weights, seeds=(), batch_size=batch_size, **values, **given)
        return [each.facts["values"] for each in found]

    return explain_regions


Chooser = Callable[[np.ndarray], Sequence[int]]  # probabilities N×7 → classes N


def cam_of_crops(
    model: FaceModel, crops: np.ndarray, targets: Sequence[int] | Chooser | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 N×7 and HiResCAM maps float32 N×S×S in 0..1 of the predicted classes or of `targets`.

    `targets` may be a function that chooses them by the probabilities. One forward pass; the backward pass goes through
    what follows the CAM layer only. A map is the evidence for the class as a share of its peak in the face; what is
    against it is 0.
    """
    if not len(crops):
        return np.zeros((0, len(EMOTIONS)), np.float32), np.zeros((0, *crops.shape[1:3]), np.float32)
    with model.lock, torch.inference_mode(False), torch.enable_grad():
        images = model.views(crops)
        cells = Cells(model.fast.classifier.get_submodule(model.spec.cam_layer), model.spec.to_grid)
        output, logits = model.cut(images) if model.cut else forward_from(model.fast, cells.layer, images)
        probabilities = model.check_finite(model.calibrate(logits.detach()))
        chosen = targets(probabilities) if callable(targets) else targets
        labels = logits.argmax(1) if chosen is None else torch.as_tensor(chosen, device=logits.device)
        (gradients,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), output)
    grids = hirescam(cells.grid(output.detach()), cells.grid(gradients))
    maps = to_unit(upsample(grids, images.shape[-2:]).relu())
    return probabilities, model.to_crops(maps, crops.shape[1])


@cache
def draw_background(count: int, size: int) -> np.ndarray:
    """Drawn faces of as many subjects and of all expressions in turn: uint8 count×size×size×3."""
    images = draw_faces(count, max(size, SMALLEST_DRAWN), subjects=count, workers=1).images
    if size >= SMALLEST_DRAWN:
        return images
    faces = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    small = F.interpolate(faces, (size, size), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
