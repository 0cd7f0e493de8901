"""Segments of a face that are hidden or shown as one: quickshift, SLIC, Felzenszwalb, a grid, facial parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from skimage.segmentation import felzenszwalb, quickshift, slic
from skimage.transform import resize

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


def segmenter(
    segmentation: str = "quickshift",
    *,
    regions: int = 64,
    kernel_size: float = 1.5,
    max_dist: float = 20.0,
    ratio: float = 0.2,
    segmentation_side: int = 224,
) -> Callable[[np.ndarray, int], np.ndarray]:
    """The function (image float H×W×C in 0..1, seed) → segments int16 H×W, numbered 0, 1, 2, … without gaps.

    segmentation: a row of SEGMENTATIONS. regions: about so many of slic and grid, at most so many of felzenszwalb.
    kernel_size, max_dist, ratio: of quickshift. Every face is segmented at a side of segmentation_side pixels and the
    segments are sampled back at the centres of its own pixels, so that the settings mean the same for every input size
    (a face of 48 px has some 10 quickshift segments, one of 224 px some 200). UserError for unknown names.
    """
    options: dict[str, Any] = {"regions": regions, "kernel_size": kernel_size, "max_dist": max_dist, "ratio": ratio}
    return partial(
        segment, divide=lookup(SEGMENTATIONS, segmentation, "segmentation"), side=segmentation_side, **options
    )


def segment(
    image: np.ndarray, seed: int, *, divide: Callable[..., np.ndarray], side: int, **options: Any
) -> np.ndarray:
    """Segments of one image, as `segmenter` says."""
    height, width = image.shape[:2]
    enlarged = resize(image.astype(np.float64), (side, side), order=1)
    colours = np.broadcast_to(enlarged, (side, side, 3))
    regions = divide(colours, seed=seed % 2**31, **options)  # skimage keeps the seed in a C int
    rows = ((np.arange(height) + 0.5) * side / height).astype(int)
    columns = ((np.arange(width) + 0.5) * side / width).astype(int)
    _, numbers = np.unique(regions[np.ix_(rows, columns)], return_inverse=True)
    return numbers.reshape(height, width).astype(np.int16)


def by_quickshift(
    image: np.ndarray, *, seed: int, kernel_size: float, max_dist: float, ratio: float, **_: Any
) -> np.ndarray:
    """Vedaldi & Soatto, "Quick shift and kernel methods for mode seeking" (2008)."""
    return quickshift(image, kernel_size=kernel_size, max_dist=max_dist, ratio=ratio, rng=seed)


def by_slic(image: np.ndarray, *, regions: int, **_: Any) -> np.ndarray:
    """Achanta et al., "SLIC superpixels" (2012)."""
    return slic(image, n_segments=regions, compactness=10, sigma=1)


def by_felzenszwalb(image: np.ndarray, *, regions: int, **_: Any) -> np.ndarray:
    """Felzenszwalb & Huttenlocher, "Efficient graph-based image segmentation" (2004)."""
    return felzenszwalb(image, scale=60, sigma=0.8, min_size=image.shape[0] * image.shape[1] // (2 * regions))


def by_grid(image: np.ndarray, *, regions: int, **_: Any) -> np.ndarray:
    """Squares, about as many as asked for."""
    cells = max(round(regions**0.5), 1)
    place = np.arange(len(image)) * cells // len(image)
    return place[:, None] * cells + place


def by_face(image: np.ndarray, **_: Any) -> np.ndarray:
    """The parts of a frontal face: each pixel to the nearest of FACIAL_CENTERS."""
    place = (np.arange(len(image)) + 0.5) / len(image)
    centers = np.array(list(FACIAL_CENTERS.values()))
    right, down = (place[..., None] - centers[:, axis] for axis in (0, 1))
    return (right[None] ** 2 + down[:, None] ** 2).argmin(axis=2)


SEGMENTATIONS: dict[str, Callable[..., np.ndarray]] = {
    "quickshift": by_quickshift,
    "slic": by_slic,
    "felzenszwalb": by_felzenszwalb,
    "grid": by_grid,
    "facial": by_face,
}
