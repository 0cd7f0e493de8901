"""A detected face, and its crop: eyes level, framed as the training faces of FER2013."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

# Where YuNet's box lies in FER2013's own pictures, medians over 1,500 training faces: the square root of its area and
# its centre, as shares of the picture's side. benchmarks/bench_faces.py measures them.
BOX_SIDE = 0.904
BOX_CENTRE = (0.504, 0.519)
CLOSE_EYES = 0.15  # of the box's side: distance of the eyes below which a profile is assumed and no tilt computed

LONGEST_SOURCE = 32_000  # pixels: of pictures with longer sides OpenCV samples a part only

LANDMARKS = ("left eye", "right eye", "nose", "left corner of the mouth", "right corner of the mouth")


@dataclass(frozen=True)
class DetectedFace:
    """A face in a picture: box and landmarks in the picture's pixels, its upper left corner being (0, 0)."""

    box: tuple[float, float, float, float]  # x, y of the upper left corner, width, height
    score: float  # 0..1
    landmarks: np.ndarray | None = None  # float32 5×2 in LANDMARKS' order; left and right as they are seen upright
    turn: int = 0  # degrees clockwise, of quarter turns, by which the head is turned in the picture

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return self.box[2] * self.box[3]

    def moved(self, scale: tuple[float, float], shift: tuple[float, float]) -> DetectedFace:
        """The face in a picture that contains this one, scaled and then shifted: x ↦ x · scale + shift."""
        x, y, width, height = self.box
        box = (x * scale[0] + shift[0], y * scale[1] + shift[1], width * scale[0], height * scale[1])
        landmarks = None if self.landmarks is None else (self.landmarks * scale + shift).astype(np.float32)
        return replace(self, box=box, landmarks=landmarks)

    def turned(self, turn: int, size: tuple[int, int]) -> DetectedFace:
        """The face of a picture of height and width `size` in that picture turned clockwise by a multiple of 90°.

        np.rot90(picture, -turn // 90) is the picture that is turned.
        """
        if turn % 360 == 0:
            return self
        x, y, width, height = self.box  # a quarter turn clockwise: (x, y) ↦ (height of the picture − y, x)
        box = (size[0] - y - height, x, height, width)
        landmarks = None if self.landmarks is None else self.landmarks[:, ::-1] * (-1, 1) + (size[0], 0)
        landmarks = None if landmarks is None else landmarks.astype(np.float32)
        quarter = replace(self, box=box, landmarks=landmarks, turn=(self.turn + 90) % 360)
        return quarter.turned(turn - 90, (size[1], size[0]))


def head_angle(face: DetectedFace) -> float:
    """Radians by which the line through the eyes falls to the right; `turn` of profiles, without landmarks."""
    if face.landmarks is None:
        return math.radians(face.turn)
    across, down = (face.landmarks[1] - face.landmarks[0]).tolist()
    if math.hypot(across, down) <= CLOSE_EYES * math.sqrt(face.area):
        return math.radians(face.turn)
    return math.atan2(down, across)


def crop_matrix(face: DetectedFace, size: int) -> np.ndarray:
    """float64 2×3: from pixels of a crop size×size to those of the picture; pixel centres are whole numbers."""
    x, y, width, height = face.box
    centre = np.array([x + width / 2, y + height / 2])
    step = math.sqrt(face.area) / BOX_SIDE / size
    cosine, sine = step * math.cos(head_angle(face)), step * math.sin(head_angle(face))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    start = centre - turn @ (np.array(BOX_CENTRE) * size - 0.5) - 0.5
    return np.concatenate([turn, start[:, None]], axis=1)


def crop_face(picture: np.ndarray, face: DetectedFace, size: int) -> np.ndarray:
    """The face, its eyes level, framed as FER2013's: picture uint8 H×W×3 RGB → uint8 size×size×3 RGB.

    Beyond the picture's border its outermost pixels are repeated.
    """
    finer = max(1, math.ceil(math.sqrt(face.area) / BOX_SIDE / size))  # sampled finely, then averaged: no aliasing
    crop = sample(picture, crop_matrix(face, size * finer), size * finer, borderMode=cv2.BORDER_REPLICATE)
    return crop if finer == 1 else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def sample(picture: np.ndarray, matrix: np.ndarray, side: int, **border: Any) -> np.ndarray:
    """A square window of a picture by its `matrix` (float64 2×3: from pixels of the window to those of the picture)."""
    if max(picture.shape[:2]) >= LONGEST_SOURCE:
        corners = matrix @ np.array([(0, side, 0, side), (0, 0, side, side), (1, 1, 1, 1)])
        sizes = picture.shape[1::-1]
        left, top = (int(min(max(0, row.min() - 2), size - 1)) for row, size in zip(corners, sizes, strict=True))
        right, bottom = (int(max(1, min(row.max() + 3, size))) for row, size in zip(corners, sizes, strict=True))
        picture = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
        matrix = matrix - np.array([[0, 0, left], [0, 0, top]])
    return cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **border)


def whole_face(picture: np.ndarray) -> DetectedFace:
    """The face of a picture that is cropped already: crop_face then gives the picture's central square."""
    height, width = picture.shape[:2]
    side = min(height, width)
    x, y = (whole / 2 + (share - 0.5) * side for whole, share in zip((width, height), BOX_CENTRE, strict=True))
    half = BOX_SIDE * side / 2
    return DetectedFace((x - half, y - half, 2 * half, 2 * half), 1.0)


def crop_outline(face: DetectedFace) -> np.ndarray:
    """float32 4×2: corners of the crop, clockwise from the upper left one, in the picture's pixels."""
    corners = np.array([(-0.5, -0.5, 1), (0.5, -0.5, 1), (0.5, 0.5, 1), (-0.5, 0.5, 1)])
    return (corners @ crop_matrix(face, 1).T + 0.5).astype(np.float32)


def warp_map(values: np.ndarray, face: DetectedFace, height: int, width: int) -> np.ndarray:
    """A map S×S of a crop in the coordinates of its picture: float32 height×width, 0 outside the crop."""
    return cv2.warpAffine(np.asarray(values, np.float32), crop_matrix(face, len(values)), (width, height))
