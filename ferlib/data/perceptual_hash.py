"""pHash: 64 bits of a picture that survive recoding, scaling and slight blur, and their distances."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn

from ferlib.data.block_means import block_means

SIDE, LOW = 32, 8  # of the picture that is transformed, of the frequencies that are kept
CHUNK = 4096
COMPARED = 256  # hashes that are compared with all others at once


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """uint64 N of uint8 N×H×W×C: which of the 8×8 lowest frequencies of the DCT of 32×32 means exceed their median.

    Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010), section 3.2.1.
    """
    found = np.empty(len(images), np.uint64)
    for start in range(0, len(images), CHUNK):
        means = block_means(images[start : start + CHUNK], SIDE)
        low = dctn(means, axes=(1, 2))[:, :LOW, :LOW].reshape(len(means), -1)
        bits = low > np.median(low, axis=1, keepdims=True)
        found[start : start + CHUNK] = np.packbits(bits, axis=1).view(np.uint64).ravel()
    return found


def nearest_hashes(hashes: np.ndarray, known: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits int64 N in which hashes uint64 N differ from the nearest of `known` uint64 M, and masks uint64 N of those.

    known: sorted, each once. masks: uint64 M; where several known hashes are equally near, their masks are joined.
    """
    places = np.searchsorted(known, hashes).clip(max=len(known) - 1)
    distances, found = np.zeros(len(hashes), np.int64), masks[places].copy()
    others = np.flatnonzero(known[places] != hashes)
    for start in range(0, len(others), COMPARED):
        rows = others[start : start + COMPARED]
        apart = np.bitwise_count(hashes[rows, None] ^ known[None])
        distances[rows] = apart.min(1)
        nearest = apart == distances[rows, None]
        found[rows] = np.bitwise_or.reduce(np.where(nearest, masks[None], np.uint64(0)), axis=1)
    return distances, found
