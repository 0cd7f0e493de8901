"""Regions of a face with names, placed by its landmarks: every pixel belongs to one of ten, of eleven or of 22."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ferlib.faces.landmarks import to_frame

FOREHEAD, BROWS, BRIDGE = "forehead", "brows", "bridge of the nose"
LEFT_EYE, RIGHT_EYE, NOSE, CHEEKS = "left eye", "right eye", "nose", "cheeks"
MOUTH, CHIN, SURROUND = "mouth", "chin and jaw", "hair and surround"
LEFT_BROW, RIGHT_BROW = "left brow", "right brow"

# left and right as they are seen
TEN = (FOREHEAD, BROWS, BRIDGE, LEFT_EYE, RIGHT_EYE, NOSE, CHEEKS, MOUTH, CHIN, SURROUND)
ELEVEN = (FOREHEAD, LEFT_BROW, RIGHT_BROW, *TEN[2:])
PARTITIONS = {"ten": TEN, "eleven": ELEVEN}  # in the second one the brows count one by one
# Parts of a face, "parts", too many for exact values: centres in the frame, and each pixel belongs to the nearest.
CENTRES = {
    "left forehead": (-0.52, -0.74),
    "middle forehead": (0.0, -0.76),
    "right forehead": (0.52, -0.74),
    "left brow": (-0.52, -0.34),
    "between the brows": (0.0, -0.34),
    "right brow": (0.52, -0.34),
    LEFT_EYE: (-0.52, 0.0),
    BRIDGE: (0.0, 0.05),
    RIGHT_EYE: (0.52, 0.0),
    "left temple": (-1.1, -0.08),
    "right temple": (1.1, -0.08),
    "left cheek": (-0.68, 0.5),
    "tip of the nose": (0.0, 0.5),
    "right cheek": (0.68, 0.5),
    "left corner of the mouth": (-0.44, 1.0),
    "middle of the mouth": (0.0, 1.0),
    "right corner of the mouth": (0.44, 1.0),
    "left jaw": (-1.05, 1.06),
    "right jaw": (1.05, 1.06),
    "chin": (0.0, 1.45),
    "left of the chin": (-0.63, 1.5),
    "right of the chin": (0.63, 1.5),
}

OVAL = ((0.0, 0.42), (1.12, 1.5))  # centre and half axes of the face in its frame; what lies outside is SURROUND


@dataclass(frozen=True)
class Shape:
    """A rectangle or trapezium of the frame, mirrored about its middle; of overlapping ones the later one counts."""

    name: str
    top: float
    bottom: float
    half_width: float = np.inf
    widening: float = 0.0  # of the half width from top to bottom
    inner: float = 0.0  # half width of what is left out in the middle

    def holds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """bool: whether it holds places of the frame."""
        beside = np.abs(x)
        within = (y > self.top) & (y <= self.bottom) & (beside >= self.inner)
        if not np.isfinite(self.half_width):
            return within
        share = (y - self.top) / (self.bottom - self.top)
        return within & (beside < self.half_width + self.widening * share)


# In units of the distance of the eyes, from the middle between them. Where no part is, there are cheeks.
SHAPES = (
    Shape(FOREHEAD, -np.inf, -0.55),
    Shape(CHIN, 0.85, np.inf, inner=0.75),
    Shape(CHIN, 1.1, np.inf, inner=0.6),
    Shape(CHIN, 1.38, np.inf),
    Shape(MOUTH, 0.78, 1.38, 0.62),
    Shape(BROWS, -0.55, -0.2, 1.0),
    Shape(LEFT_EYE, -0.2, 0.24, 0.95),
    Shape(BRIDGE, -0.55, 0.27, 0.17),
    Shape(NOSE, 0.27, 0.78, 0.17, widening=0.24),
)


def regions_of(landmarks: np.ndarray, side: int, partition: str = "ten") -> np.ndarray:
    """int16 side×side: for each pixel of a picture the number of its region in PARTITIONS[partition], or in CENTRES.

    landmarks: float64 5×2 as shares of the side (landmarks.find_landmarks). A region that lies outside of the picture
    has no pixels.
    """
    x, y = np.moveaxis(to_frame(landmarks, side), -1, 0)
    if partition == "parts":
        right, down = (
            place[..., None] - centre for place, centre in zip((x, y), np.array(list(CENTRES.values())).T, strict=True)
        )
        return (right**2 + down**2).argmin(-1).astype(np.int16)
    names = PARTITIONS[partition]
    numbers = np.full(x.shape, names.index(CHEEKS), np.int16)
    for part in SHAPES:
        held = part.holds(x, y)
        left, right = SIDES.get(part.name, (part.name, part.name))
        if left not in names:  # the brows as one
            left = right = part.name
        numbers[held & (x < 0)] = names.index(left)
        numbers[held & (x >= 0)] = names.index(right)
    (across, down), (half_width, half_height) = OVAL
    numbers[((x - across) / half_width) ** 2 + ((y - down) / half_height) ** 2 > 1] = names.index(SURROUND)
    return numbers


SIDES = {BROWS: (LEFT_BROW, RIGHT_BROW), LEFT_EYE: (LEFT_EYE, RIGHT_EYE)}  # parts whose two sides count one by one
