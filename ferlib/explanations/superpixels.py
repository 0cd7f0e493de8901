"""Segments of a face that are hidden or shown as one: facial parts, quickshift, SLIC, Felzenszwalb, a grid."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from skimage.segmentation import felzenszwalb, quickshift, slic
from skimage.transform import resize

from ferlib.runtime.errors import lookup

FACIAL = "facial"  # placed by landmarks; the others are SEGMENTATIONS
SMALL = 112  # pixels: below this side "auto" cuts a face into its parts, from it on into merged quickshift regions
MOST_REGIONS = 40  # of merged quickshift regions, by default
POSITION = 0.5  # of merging: a face's side counts as much as so much of the range of grey


def choose_segmentation(segmentation: str, side: int) -> str:
    """FACIAL or the row of SEGMENTATIONS for faces of so many pixels a side: "auto" follows it."""
    if segmentation != "auto":
        return segmentation
    return FACIAL if side < SMALL else "merged"


def segmenter(
    segmentation: str = "auto",
    *,
    regions: int = MOST_REGIONS,
    kernel_size: float = 1.5,
    max_dist: float = 20.0,
    ratio: float = 0.2,
    segmentation_side: int = 224,
    share: float = 1.0,
) -> Segmenter:
    """The function (image float H×W×C in 0..1, seed) → segments int16 H×W, numbered 0, 1, 2, … without gaps.

    segmentation: FACIAL, a row of SEGMENTATIONS, or "auto", that of choose_segmentation. regions: about so many of slic
    and grid, at most so many of merged and felzenszwalb. kernel_size, max_dist, ratio: of quickshift and merged.
    share: of facial, side of the image as a share of the picture whose centre it is. All but facial segment a face at a
    side of segmentation_side pixels; the segments are sampled back at the centres of its own pixels, so that the
    settings mean the same for every input size (a face of 48 px has some 10 quickshift segments, one of 224 px some
    200). UserError for unknown names.
    """
    lookup(dict.fromkeys(("auto", FACIAL, *SEGMENTATIONS)), segmentation, "segmentation")
    options: dict[str, Any] = {"regions": regions, "kernel_size": kernel_size, "max_dist": max_dist, "ratio": ratio}
    return Segmenter(segmentation, FacialParts(share), {"side": segmentation_side, **options})


class Segmenter:
    """The function that `segmenter` returns."""

    def __init__(self, segmentation: str, facial: FacialParts, options: dict[str, Any]) -> None:
        self.segmentation, self.facial, self.options = segmentation, facial, options

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Segments int16 H×W of an image float H×W×C in 0..1."""
        return self.place(image, seed)[0]

    def place(self, image: np.ndarray, seed: int) -> tuple[np.ndarray, bool | None]:
        """The same, and whether the face's landmarks were found; None of segments that they do not place."""
        chosen = choose_segmentation(self.segmentation, len(image))
        if chosen == FACIAL:
            return self.facial(image)
        return segment(image, seed, divide=SEGMENTATIONS[chosen], **self.options), None


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
    return renumber(regions[np.ix_(rows, columns)])


def renumber(segments: np.ndarray) -> np.ndarray:
    """int16 H×W numbered without gaps."""
    _, numbers = np.unique(segments, return_inverse=True)
    return numbers.reshape(segments.shape).astype(np.int16)


class FacialParts:
    """The 22 parts of a face (face_regions.CENTRES), placed by its landmarks; the first face opens a detector."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._place: Callable[..., Any] | None = None
        self._lock = threading.Lock()  # a detector serves one face at a time

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, bool]:
        """Segments int16 H×W of an image float H×W×C in 0..1, and whether its landmarks were found; where not, they are
        those of an average face."""
        import torch

        from ferlib.explanations.landmark_detector import open_landmarks
        from ferlib.explanations.region_fills import placer

        with self._lock:
            self._place = self._place or placer(open_landmarks(), self.share, "parts")
            face = torch.from_numpy(np.ascontiguousarray(image, np.float32)).permute(2, 0, 1)[None]
            placed = self._place(face)
            return renumber(placed.regions[0]), bool(placed.found[0])


def by_quickshift(
    image: np.ndarray, *, seed: int, kernel_size: float, max_dist: float, ratio: float, **_: Any
) -> np.ndarray:
    """Vedaldi & Soatto, "Quick shift and kernel methods for mode seeking" (2008)."""
    return quickshift(image, kernel_size=kernel_size, max_dist=max_dist, ratio=ratio, rng=seed)


def by_merging(image: np.ndarray, *, regions: int, **options: Any) -> np.ndarray:
    """The regions of quickshift, of which neighbours are merged until no more than `regions` are left."""
    return merge_regions(image, by_quickshift(image, **options), regions)


def merge_regions(image: np.ndarray, segments: np.ndarray, most: int) -> np.ndarray:
    """Segments H×W of which neighbours are merged until at most `most` are left, like with like first.

    Ward, "Hierarchical grouping to optimize an objective function" (1963), among neighbours: the pair whose union adds
    least to the sum of squared distances of pixels from their region's mean, in colour and, with the weight POSITION,
    in place. So small regions go first, and none becomes very large.
    """
    numbers = renumber(segments).astype(np.int64)
    height, width = numbers.shape
    places = np.moveaxis(np.mgrid[:height, :width] / max(height, width), 0, -1)
    features = np.concatenate([image, POSITION * places], axis=2).reshape(height * width, -1)
    sizes = np.bincount(numbers.ravel()).astype(float)
    means = np.stack([np.bincount(numbers.ravel(), each) for each in features.T], 1) / sizes[:, None]
    touching = np.zeros((len(sizes),) * 2, bool)
    for one, other in ((numbers[:, 1:], numbers[:, :-1]), (numbers[1:], numbers[:-1])):
        touching[one, other] = touching[other, one] = True
    np.fill_diagonal(touching, False)
    parents = np.arange(len(sizes))
    costs = np.where(touching, pair_costs(means, sizes), np.inf)
    for _ in range(len(sizes) - most):
        kept, gone = divmod(int(costs.argmin()), len(costs))
        parents[parents == gone] = kept
        means[kept] = (sizes[kept] * means[kept] + sizes[gone] * means[gone]) / (sizes[kept] + sizes[gone])
        sizes[kept] += sizes[gone]
        touching[kept] |= touching[gone]
        touching[:, kept] = touching[kept]
        touching[gone] = touching[:, gone] = touching[kept, kept] = False
        costs[gone] = costs[:, gone] = np.inf
        costs[kept] = np.where(touching[kept], pair_costs(means, sizes, kept), np.inf)
        costs[:, kept] = costs[kept]
    return parents[numbers]


def pair_costs(means: np.ndarray, sizes: np.ndarray, row: int | slice = slice(None)) -> np.ndarray:
    """What the union of a region, or of each, with each region adds to the sum of squares within regions."""
    one, size = means[row], sizes[row]
    distances = np.square(one[..., None, :] - means).sum(-1)
    return np.asarray(size)[..., None] * sizes / (np.asarray(size)[..., None] + sizes) * distances


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


SEGMENTATIONS: dict[str, Callable[..., np.ndarray]] = {
    "merged": by_merging,
    "quickshift": by_quickshift,
    "slic": by_slic,
    "felzenszwalb": by_felzenszwalb,
    "grid": by_grid,
}
