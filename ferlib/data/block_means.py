"""Means of square blocks of pictures: coordinates in which pictures that look alike are near each other."""

from __future__ import annotations

import numpy as np

CHUNK = 512  # pictures that are converted to float at once
GREY = np.array((0.299, 0.587, 0.114), np.float32)  # of red, green and blue (ITU-R BT.601), as Pillow's mode L


def block_means(images: np.ndarray, blocks: int) -> np.ndarray:
    """float32 N×blocks×blocks: means in grey levels of the blocks into which uint8 N×H×W×C pictures are divided.

    Sides that `blocks` does not divide have blocks that share pixels at their edges, each by its part of them.
    """
    rows, columns = (averaging(side, blocks) for side in images.shape[1:3])
    means = np.empty((len(images), blocks, blocks), np.float32)
    for start in range(0, len(images), CHUNK):
        grey = to_grey(images[start : start + CHUNK])
        means[start : start + CHUNK] = rows.T @ (grey @ columns)
    return means


def averaging(side: int, blocks: int) -> np.ndarray:
    """float32 side×blocks: the weight of each pixel of a side in the mean of each block."""
    edges = np.linspace(0, side, blocks + 1)
    pixels = np.arange(side)[:, None]
    covered = np.clip(np.minimum(pixels + 1, edges[1:]) - np.maximum(pixels, edges[:-1]), 0, None)
    return (covered * (blocks / side)).astype(np.float32)


def to_grey(images: np.ndarray) -> np.ndarray:
    """float32 N×H×W of uint8 N×H×W×1 or N×H×W×3."""
    pixels = images.astype(np.float32)
    return pixels[..., 0] if images.shape[-1] == 1 else pixels @ GREY


def standardise(vectors: np.ndarray) -> np.ndarray:
    """float32 N×D less their means, of length 1, so that products are correlations; zeros for constant vectors."""
    vectors = vectors.reshape(len(vectors), -1).astype(np.float32)
    vectors = vectors - vectors.mean(1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-3 * np.sqrt(vectors.shape[1]))
