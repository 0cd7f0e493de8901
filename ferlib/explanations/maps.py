"""Attribution maps as arrays: sums over blocks, limits of the colour scale, where a map is strongest."""

from __future__ import annotations

import numpy as np

MAX_SIDE = 28  # finer maps are summed over square blocks of pixels before they are drawn


def sum_blocks(values: np.ndarray, max_side: int = MAX_SIDE) -> tuple[np.ndarray, int]:
    """H×W summed over the smallest square blocks of which at most `max_side` lie in a row, and the blocks' side.

    Attributions add up, so a block's sum is the attribution of the block.
    """
    block = -(-max(values.shape) // max_side)
    rows, columns = (-(-side // block) for side in values.shape)
    padded = np.zeros((rows * block, columns * block))
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(rows, block, columns, block).sum(axis=(1, 3)), block


def color_limit(maps: np.ndarray, quantile: float = 0.995) -> float:
    """The absolute value that gets full colour: a high quantile, lest one pixel makes all others pale.

    quantile: see specs.Method.quantile.
    """
    limit = float(np.quantile(np.abs(maps), quantile)) or float(np.abs(maps).max())
    return limit or 1.0


def top_supporting(values: np.ndarray, segments: np.ndarray, count: int) -> np.ndarray:
    """Mask H×W of the `count` segments with the largest positive values; fewer if fewer are positive."""
    numbers, first = np.unique(segments, return_index=True)
    weights = values.ravel()[first]
    order = np.argsort(-weights, kind="stable")[:count]
    return np.isin(segments, numbers[order[weights[order] > 0]])


def locate(values: np.ndarray) -> str:
    """Where in the face the map H×W is strongest, in words: the ninth of it with the largest sum of what is above 0."""
    rows = np.array_split(np.maximum(np.asarray(values, dtype=np.float32), 0), 3)
    sums = np.array([[part.sum() for part in np.array_split(row, 3, axis=1)] for row in rows])
    if not sums.any():
        return "nowhere"
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    height, side = ("upper", "middle", "lower")[row], ("left", "centre", "right")[column]
    return "in the centre" if (height, side) == ("middle", "centre") else f"in the {height} {side}"
