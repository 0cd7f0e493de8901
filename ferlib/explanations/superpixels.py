"""Cuts a face into regions that are hidden or shown as one: quickshift, SLIC, Felzenszwalb, a grid, facial parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.segmentation import felzenszwalb, quickshift, slic
from skimage.transform import resize

from config import ExplainLime
from ferlib.runtime.errors import lookup

# Centres (right, down) of the parts of a frontal face that fills its picture, as fractions of the side.
FACIAL_CENTERS = {
    "left forehead": (0.30, 0.10),
    "middle forehead": (0.50, 0.09),
    "right forehead": (0.70, 0.10),
    "left brow": (0.30, 0.25),
    "between the brows": (0.50, 0.25),
    "right brow": (0.70, 0.25),
    "left eye": (0.30, 0.38),
    "bridge of the nose": (0.50, 0.40),
    "right eye": (0.70, 0.38),
    "left temple": (0.08, 0.35),
    "right temple": (0.92, 0.35),
    "left cheek": (0.24, 0.57),
    "tip of the nose": (0.50, 0.57),
    "right cheek": (0.76, 0.57),
    "left corner of the mouth": (0.33, 0.76),
    "middle of the mouth": (0.50, 0.76),
    "right corner of the mouth": (0.67, 0.76),
    "left jaw": (0.10, 0.78),
    "right jaw": (0.90, 0.78),
    "chin": (0.50, 0.93),
    "left of the chin": (0.26, 0.95),
    "right of the chin": (0.74, 0.95),
}


def segment(image: np.ndarray, settings: ExplainLime, seed: int) -> np.ndarray:
    """Superpixels of a face, float H×W×C in 0..1 → int16 H×W, numbered 0, 1, 2, … without gaps.

    A face of 48 pixels has some 10 quickshift regions and one of 224 pixels some 200; so every face is segmented at
    `segmentation_side` and the regions are sampled back at the centres of its own pixels: the settings mean the same
    for every model.
    """
    height, width, side = *image.shape[:2], settings.segmentation_side
    divide = lookup(SEGMENTATIONS, settings.segmentation, "segmentation")
    enlarged = resize(image.astype(np.float64), (side, side), order=1)
    regions = divide(np.broadcast_to(enlarged, (side, side, 3)), settings, seed % 2**31)  # skimage keeps it in a C int
    rows = ((np.arange(height) + 0.5) * side / height).astype(int)
    columns = ((np.arange(width) + 0.5) * side / width).astype(int)
    _, numbers = np.unique(regions[np.ix_(rows, columns)], return_inverse=True)
    return numbers.reshape(height, width).astype(np.int16)


def by_quickshift(image: np.ndarray, settings: ExplainLime, seed: int) -> np.ndarray:
    """Vedaldi & Soatto, "Quick shift and kernel methods for mode seeking" (2008)."""
    return quickshift(
        image, kernel_size=settings.kernel_size, max_dist=settings.max_dist, ratio=settings.ratio, rng=seed
    )


def by_slic(image: np.ndarray, settings: ExplainLime, seed: int) -> np.ndarray:
    """Achanta et al., "SLIC superpixels" (2012)."""
    return slic(image, n_segments=settings.regions, compactness=10, sigma=1)


def by_felzenszwalb(image: np.ndarray, settings: ExplainLime, seed: int) -> np.ndarray:
    """Felzenszwalb & Huttenlocher, "Efficient graph-based image segmentation" (2004)."""
    return felzenszwalb(image, scale=60, sigma=0.8, min_size=image.shape[0] * image.shape[1] // (2 * settings.regions))


def by_grid(image: np.ndarray, settings: ExplainLime, seed: int) -> np.ndarray:
    """Squares, about as many as asked for."""
    cells = max(round(settings.regions**0.5), 1)
    place = np.arange(len(image)) * cells // len(image)
    return place[:, None] * cells + place


def by_face(image: np.ndarray, settings: ExplainLime, seed: int) -> np.ndarray:
    """The parts of a frontal face: each pixel belongs to the nearest of FACIAL_CENTERS."""
    place = (np.arange(len(image)) + 0.5) / len(image)
    centers = np.array(list(FACIAL_CENTERS.values()))
    right, down = (place[..., None] - centers[:, axis] for axis in (0, 1))
    return (right[None] ** 2 + down[:, None] ** 2).argmin(axis=2)


SEGMENTATIONS: dict[str, Callable[[np.ndarray, ExplainLime, int], np.ndarray]] = {
    "quickshift": by_quickshift,
    "slic": by_slic,
    "felzenszwalb": by_felzenszwalb,
    "grid": by_grid,
    "facial": by_face,
}
