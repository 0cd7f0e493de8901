"""What hides a region of a face: a level, the face's own mean, the blurred face, or the mean of other faces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from ferlib.explanations.baselines import make_baseline
from ferlib.explanations.face_regions import regions_of
from ferlib.explanations.regions import Fill, Place, Placed
from ferlib.explanations.warping import into_frame, out_of_frame
from ferlib.faces.detection import Search
from ferlib.faces.landmarks import MEAN_LANDMARKS, crop_landmarks, find_landmarks

PLAIN = ("grey", "mean", "blur")  # rows of baselines.NAMES that tell how much values depend on the fill
FRAME_SIDE = 128  # pixels of the mean face


def placer(search: Search | None, share: float, partition: str) -> Place:
    """The function that places the regions of faces; without a detector all are those of the mean face.

    share: side of the model's view as a share of the picture's, whose centre it is.
    """
    return partial(place, search=search, share=share, partition=partition)


def place(images: torch.Tensor, *, search: Search | None, share: float, partition: str) -> Placed:
    """Regions of faces N×C×S×S in 0..1."""
    side = images.shape[-1]
    landmarks = np.repeat(crop_landmarks(MEAN_LANDMARKS, share)[None], len(images), 0)
    found = np.zeros(len(images), bool)
    if search is not None:
        here, found = find_landmarks(to_pictures(images), search)
        landmarks[found] = here[found]
    return Placed(landmarks, found, np.stack([regions_of(each, side, partition) for each in landmarks]))


def to_pictures(images: torch.Tensor) -> np.ndarray:
    """uint8 N×H×W×3 from N×C×H×W in 0..1."""
    pixels = (images * 255).round().clamp(0, 255).byte().expand(-1, 3, -1, -1)
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())


def make_fills(baseline: str, place: Place, background: Callable[[], torch.Tensor] | None) -> dict[str, Fill]:
    """The fills by name; of a level that is none of them, also that level.

    background: faces M×C×H×W, drawn when the first face is filled with their mean; None: no such fill.
    """
    mean_face: list[torch.Tensor] = []

    plain = PLAIN if baseline in (*PLAIN, "background") else (baseline, *PLAIN)
    fills: dict[str, Fill] = {name: partial(fill_plain, name=name) for name in plain}
    if background is None:
        return fills

    def of_background(images: torch.Tensor, landmarks: np.ndarray) -> torch.Tensor:
        if not mean_face:
            faces = background()
            mean_face.append(average(faces, place(faces).landmarks))
        return torch.stack([out_of_frame(mean_face[0], points, images.shape[-1]) for points in landmarks])

    return fills | {"background": of_background}


def fill_plain(images: torch.Tensor, _landmarks: np.ndarray, *, name: str) -> torch.Tensor:
    """A baseline, as of other methods."""
    return make_baseline(images, name)


def average(faces: torch.Tensor, landmarks: np.ndarray) -> torch.Tensor:
    """The mean face C×FRAME_SIDE×FRAME_SIDE in the frame, of M×C×H×W with landmarks M×5×2."""
    moved = [into_frame(face, points, FRAME_SIDE) for face, points in zip(faces, landmarks, strict=True)]
    return torch.stack(moved).mean(0)
