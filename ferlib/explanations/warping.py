"""Faces read at other places than their own pixels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ferlib.faces.landmarks import frame_matrix, to_frame

FRAME = ((-1.7, 1.7), (-1.4, 2.0))  # x and y of the part of the frame of a face that is sampled


def sample(image: torch.Tensor, places: np.ndarray, beyond: str = "border") -> torch.Tensor:
    """C×H×W read bilinearly at places H'×W'×2 (x, y as shares of its sides).

    beyond: what lies beyond its border, the pixels of the "border" or "zeros".
    """
    grid = torch.from_numpy(2 * places - 1).to(image)[None]
    return F.grid_sample(image[None], grid, padding_mode=beyond, align_corners=False)[0]


def into_frame(image: torch.Tensor, landmarks: np.ndarray, side: int, beyond: str = "border") -> torch.Tensor:
    """The face C×H×W with landmarks 5×2 in its frame: C×side×side; beyond: as in `sample`."""
    (left, right), (top, bottom) = FRAME
    steps = (np.arange(side) + 0.5) / side
    places = np.stack(np.meshgrid(left + steps * (right - left), top + steps * (bottom - top)), -1)
    matrix = frame_matrix(landmarks)
    return sample(image, places @ matrix[:, :2].T + matrix[:, 2], beyond)


def out_of_frame(image: torch.Tensor, landmarks: np.ndarray, side: int) -> torch.Tensor:
    """A face C×H×W in its frame moved to where a face has its landmarks: C×side×side."""
    low, high = np.array(FRAME).T
    return sample(image, (to_frame(landmarks, side) - low) / (high - low))


def onto(image: torch.Tensor, landmarks: np.ndarray, others: np.ndarray, side: int) -> torch.Tensor:
    """The face C×H×W with landmarks 5×2 moved so that they lie where `others` do: C×side×side."""
    matrix = frame_matrix(landmarks)
    return sample(image, to_frame(others, side) @ matrix[:, :2].T + matrix[:, 2])
