"""Measures of a picture that copies of a data set change: brightness, contrast, sharpness, traces of equalisation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from ferlib.data.block_means import to_grey

LEVELS = 256
TAILS = 0.02  # share of the pixels at either end of the histogram in which gaps are not counted
WINDOW = 9  # grey levels over which a histogram is smoothed
CHUNK = 512  # pictures that are measured at once
FLAT = 2.0  # grey levels: a picture of a smaller standard deviation shows nothing


class Measure(NamedTuple):
    """A measure, as people read it."""

    title: str
    unit: str
    digits: int


MEASURES = {
    "brightness": Measure("brightness", "mean, grey levels", 0),
    "contrast": Measure("contrast", "standard deviation, grey levels", 0),
    "sharpness": Measure("sharpness", "Laplacian by contrast", 2),
    "comb": Measure("comb", "excess of empty grey levels", 3),
    "uniformity": Measure("distance from a uniform histogram", "Kolmogorov-Smirnov", 2),
    "saturation": Measure("saturation", "share of pixels at 0 or 255", 3),
}


def measure_pictures(images: np.ndarray) -> dict[str, np.ndarray]:
    """float32 N by the names of MEASURES, of uint8 N×H×W×C, in grey.

    brightness, contrast: mean and standard deviation in grey levels. sharpness: standard deviation of the Laplacian
    (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000) by that of the picture; 0 of flat
    pictures. comb: share of empty grey levels between the quantiles TAILS and 1 - TAILS, less what Poisson counts
    around the smoothed histogram make one expect; scaling grey levels after they were rounded leaves gaps. uniformity:
    Kolmogorov-Smirnov distance of the histogram from the uniform one; histogram equalisation brings it near 0.
    saturation: share of pixels at 0 or 255.
    """
    found = {name: np.empty(len(images), np.float32) for name in MEASURES}
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        grey = to_grey(images[part])
        deviation = grey.std((1, 2))
        histogram = histograms(grey)
        found["brightness"][part] = grey.mean((1, 2))
        found["contrast"][part] = deviation
        edges = np.where(deviation < FLAT, 0, laplacian(grey).std((1, 2)))
        found["sharpness"][part] = edges / np.maximum(deviation, FLAT)
        found["comb"][part] = comb(histogram)
        found["uniformity"][part] = distance_from_uniform(histogram)
        found["saturation"][part] = histogram[:, [0, -1]].sum(1) / grey[0].size
    return found


def laplacian(grey: np.ndarray) -> np.ndarray:
    """N×(H-2)×(W-2): four times each pixel of N×H×W less its four neighbours."""
    middle = 4 * grey[:, 1:-1, 1:-1]
    return middle - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]


def histograms(grey: np.ndarray) -> np.ndarray:
    """Counts int64 N×256 of grey levels N×H×W."""
    levels = np.rint(grey).astype(np.int64).reshape(len(grey), -1) + LEVELS * np.arange(len(grey))[:, None]
    return np.bincount(levels.ravel(), minlength=LEVELS * len(grey)).reshape(-1, LEVELS)


def comb(histogram: np.ndarray) -> np.ndarray:
    """Share of empty levels N of counts N×256 beyond what is expected, between the tails."""
    shares = histogram.cumsum(1) / histogram.sum(1, keepdims=True)
    inside = (shares >= TAILS) & (shares - histogram / histogram.sum(1, keepdims=True) <= 1 - TAILS)
    expected = np.exp(-uniform_filter1d(histogram.astype(np.float64), WINDOW, axis=1))
    return ((histogram == 0) - expected).mean(1, where=inside)


def distance_from_uniform(histogram: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov distance N of counts N×256 from the uniform distribution."""
    shares = histogram.cumsum(1) / histogram.sum(1, keepdims=True)
    return np.abs(shares - np.arange(1, LEVELS + 1) / LEVELS).max(1)
