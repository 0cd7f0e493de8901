"""Counterfactuals from real faces: the fewest regions of another face with which the network says another class.

The evidence counterfactual of Goyal et al., "Counterfactual visual explanations" (2019), section 3, with named regions
in place of cells of features, and pixels in place of features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from ferlib.explanations.baselines import gaussian
from ferlib.explanations.coalitions import coalitions
from ferlib.explanations.face_regions import SURROUND
from ferlib.explanations.warping import into_frame, onto

CANDIDATES = 300  # training faces of a class among which the donor is
LOOK_SIDE = 24  # pixels of the faces that are compared
FEATHER = 0.03  # standard deviation of the blur of a region's edge, as a share of the side


@dataclass(frozen=True)
class Donor:
    """A real face of another class."""

    image: torch.Tensor  # C×H×W in 0..1
    landmarks: np.ndarray  # float64 5×2
    name: str


@dataclass(frozen=True)
class Transplant:
    """The result of a search."""

    image: torch.Tensor  # C×H×W: the face with the donor's regions
    regions: list[str] | None  # None: even all of the donor's regions do not make it the donor's class
    probability: float  # of the donor's class
    passes: int  # of single images


FindDonor = Callable[[torch.Tensor, np.ndarray, int], Donor | None]  # image, landmarks, class → a face of that class


@dataclass
class DonorPool:
    """Training faces of a class that the network classifies so, ready to be compared with a face."""

    images: torch.Tensor  # M×C×H×W
    landmarks: np.ndarray  # float64 M×5×2
    names: list[str]

    def __post_init__(self) -> None:
        faces = zip(self.images, self.landmarks, strict=True)
        self.looks = torch.stack([look(*face) for face in faces]) if len(self.images) else torch.empty(0)

    def nearest(self, image: torch.Tensor, landmarks: np.ndarray) -> Donor | None:
        """The face that looks most like another one; None of an empty pool."""
        if not len(self.images):
            return None
        number = int((self.looks - look(image, landmarks)).square().sum(1).argmin())
        return Donor(self.images[number], self.landmarks[number], self.names[number])


def donor_finder(
    model: nn.Module,
    place: Callable[[torch.Tensor], Any],
    faces_of: Callable[[int, int], tuple[torch.Tensor, list[str]] | None],
    batch_size: int,
) -> FindDonor | None:
    """The function that finds a donor among CANDIDATES faces of a class; None where there are no faces.

    Only faces that the model classifies as of their class are candidates. Those of a class are predicted and placed
    when the first face asks for it.
    """
    if faces_of(0, 0) is None:
        return None

    @cache
    def pool(label: int) -> DonorPool:
        images, names = faces_of(label, CANDIDATES) or (torch.empty(0), [])
        right = [predict(model, part).argmax(1) == label for part in images.split(batch_size)] if names else []
        chosen = torch.cat(right).nonzero()[:, 0] if right else torch.empty(0, dtype=torch.long)
        images = images[chosen.to(images.device)]
        landmarks = place(images).landmarks if len(images) else np.zeros((0, 5, 2))
        return DonorPool(images, landmarks, [names[number] for number in chosen.tolist()])

    return lambda image, landmarks, label: pool(label).nearest(image, landmarks)


def look(image: torch.Tensor, landmarks: np.ndarray) -> torch.Tensor:
    """What faces are compared by: the face in its frame at LOOK_SIDE pixels, of mean 0 and standard deviation 1."""
    pixels = into_frame(image, landmarks, LOOK_SIDE).mean(0).flatten()
    return (pixels - pixels.mean()) / pixels.std().clamp(min=1e-3)


def find_transplant(
    model: nn.Module,
    image: torch.Tensor,
    landmarks: np.ndarray,
    regions: np.ndarray,
    names: tuple[str, ...],
    donor: Donor,
    label: int,
    batch_size: int = 64,
) -> Transplant:
    """The smallest set of regions of the donor with which the face C×H×W is classified as `label`.

    The donor's regions are moved by its landmarks onto the face's, its brightness and contrast are made those of the
    face, and the edges are blurred. What surrounds the face is not taken from the donor. Of several sets of the same
    size that with the highest probability is returned.
    """
    moved = onto(donor.image, donor.landmarks, landmarks, image.shape[-1])
    moved = match(moved, image, torch.from_numpy(regions != names.index(SURROUND)).to(image.device))
    soft = feathered(torch.from_numpy(regions).to(image.device), len(names))
    sets = coalitions(len(names))
    sets = sets[sets[:, names.index(SURROUND)] == 0]
    passes = 0
    for size in range(1, len(names)):
        rows = sets[sets.sum(1) == size]
        masks = torch.from_numpy(rows).to(image)
        mixed = (mix(image, moved, soft, part) for part in masks.split(batch_size))
        probabilities = torch.cat([predict(model, pictures) for pictures in mixed])
        passes += len(rows)
        said = probabilities[:, label].where(probabilities.argmax(1) == label, torch.tensor(-1.0))
        best = int(said.argmax())
        if said[best] > 0:
            chosen = [name for name, taken in zip(names, rows[best], strict=True) if taken]
            return Transplant(mix(image, moved, soft, masks[best][None])[0], chosen, float(said[best]), passes)
    return Transplant(mix(image, moved, soft, masks[-1:])[0], None, float(probabilities[-1, label]), passes)


def mix(image: torch.Tensor, moved: torch.Tensor, soft: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """M×C×H×W: the image C×H×W with the regions of masks M×n taken from `moved`, by their shares n×H×W."""
    return torch.lerp(image, moved, (masks @ soft.flatten(1)).view(-1, 1, *image.shape[1:]))


@torch.inference_mode()
def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Probabilities float32 M×K on the CPU."""
    return model(images.contiguous(memory_format=torch.channels_last)).float().softmax(1).cpu()


def match(moved: torch.Tensor, image: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
    """`moved` with the mean and the standard deviation that the image has within the face, bool H×W."""
    if not face.any():
        return moved
    theirs, ours = moved[:, face], image[:, face]
    scale = ours.std().clamp(min=0.02) / theirs.std().clamp(min=0.02)
    return ((moved - theirs.mean()) * scale + ours.mean()).clamp(0, 1)


def feathered(regions: torch.Tensor, count: int) -> torch.Tensor:
    """float32 count×H×W: the share of each region at each pixel, with blurred edges; the shares add up to 1."""
    hard = torch.nn.functional.one_hot(regions.long(), count).permute(2, 0, 1).float()
    return gaussian(hard[None], FEATHER)[0]
