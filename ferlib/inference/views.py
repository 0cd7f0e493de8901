"""The views of a face in evaluation: centre, corner crops, flips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F

from models import ModelSpec


def to_float(images: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """uint8 N×H×W×C → float N×C×H×W in 0..1; faces larger than the model's input are shrunk with antialiasing."""
    faces = images.permute(0, 3, 1, 2).float().div_(255)
    if faces.shape[-1] > spec.scaled_size:
        size = (spec.scaled_size, spec.scaled_size)
        faces = F.interpolate(faces, size, mode="bilinear", antialias=True, align_corners=False)
    return faces


def center_view(images: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """The model's input in evaluation: uint8 N×H×W×C → float N×C×size×size in 0..1."""
    return crop_view(images, spec, 0, 0)


def crop_view(images: torch.Tensor, spec: ModelSpec, down: int, right: int) -> torch.Tensor:
    """The crop at the centre (0), or at an edge (−1, 1), of the scaled face."""
    room = spec.scaled_size - spec.image_size
    top, left = room * (1 + down) // 2, room * (1 + right) // 2
    rows, columns = slice(top, top + spec.image_size), slice(left, left + spec.image_size)
    if images.shape[2] == spec.scaled_size:  # nothing but the crop has to be converted
        return to_float(images[:, rows, columns], spec).contiguous(memory_format=torch.channels_last)
    faces = to_float(images, spec)
    if faces.shape[-1] < spec.scaled_size:
        faces = F.interpolate(faces, (spec.scaled_size, spec.scaled_size), mode="bilinear", align_corners=False)
    return faces[..., rows, columns].contiguous(memory_format=torch.channels_last)


VIEWS = {  # name → (places of the crop, whether each is flipped too)
    "single": (((0, 0),), False),
    "flip": (((0, 0),), True),
    "five_crop": (((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)), False),
    "ten_crop": (((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)), True),
}


def count_views(name: str) -> int:
    """How many views of a face a row of VIEWS has."""
    places, flip = VIEWS[name]
    return len(places) * (1 + flip)


CROP_MARGIN = 1 / 12  # of the face's side, for models whose input is the whole face: 4 of 48 pixels


def face_views(images: torch.Tensor, spec: ModelSpec, name: str) -> Iterator[torch.Tensor]:
    """The views of uint8 faces N×H×W×C that are scored and averaged, each float N×C×size×size in 0..1.

    Corner crops end at the edges of the scaled face; for a model whose input is the whole face, the face is first
    scaled up by CROP_MARGIN.
    """
    places, flip = VIEWS[name]
    if len(places) > 1 and spec.scaled_size == spec.image_size:
        spec = replace(spec, resize=round(spec.image_size * (1 + CROP_MARGIN)))
    for down, right in places:
        view = crop_view(images, spec, down, right)
        yield view
        if flip:
            yield view.flip(-1)
