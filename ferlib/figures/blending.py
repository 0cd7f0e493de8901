"""Colours of maps over faces; imports no matplotlib until a map without signs is coloured."""

from __future__ import annotations

import numpy as np
from PIL import ImageColor

from ferlib.figures.palette import DARK_RED, TURQUOISE

FOR, AGAINST = (np.array(ImageColor.getrgb(color)) / 255 for color in (DARK_RED, TURQUOISE))  # R,G,B in 0..1
IMPORTANCE = "cividis"  # matplotlib's colour map of values without a sign
DARKEST, BRIGHTEST = 0.46, 0.76  # grey of a face under a map with signs: between the two colours
NOTHING = (DARKEST + BRIGHTEST) / 2  # grey of the value 0 in a ramp and in a map alone
SHOWN = 0.7  # opacity of a map without signs over a face


def to_rgb(image: np.ndarray) -> np.ndarray:
    """H×W×1 or H×W×3 in 0..1 → H×W×3."""
    return np.broadcast_to(np.clip(image, 0, 1), (*image.shape[:2], 3))


def to_grey(image: np.ndarray) -> np.ndarray:
    """H×W×1 or H×W×3 in 0..1 → H×W."""
    return image.mean(axis=2)


def overlay(image: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """The face in grey under the colours of H×W signed values: H×W×3 in 0..1.

    Opacity is the share of `limit` that a value is, as in a ramp: the colour of half the limit is half as strong.
    """
    return colour_signs(values, limit, (DARKEST + (BRIGHTEST - DARKEST) * to_grey(image))[..., None])


def colour_signs(values: np.ndarray, limit: float, ground: np.ndarray | float = NOTHING) -> np.ndarray:
    """The colours of H×W signed values over a ground: H×W×3 in 0..1."""
    share = np.clip(values / limit, -1, 1)[..., None]
    return ground + (np.where(share > 0, FOR, AGAINST) - ground) * np.abs(share)


def stretch(image: np.ndarray) -> np.ndarray:
    """The face in grey from black to white, so that a dark one can be seen under colours: H×W×1 in 0..1."""
    grey = to_grey(image)
    low, high = np.quantile(grey, (0.01, 0.99))
    return np.clip((grey - low) / max(high - low, 0.05), 0, 1)[..., None]


def tint(image: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """The face in grey under the colours of H×W values from 0 to `limit`: H×W×3 in 0..1."""
    return colour_sizes(values, limit, to_grey(image)[..., None])


def colour_sizes(values: np.ndarray, limit: float, ground: np.ndarray | float = 0.5) -> np.ndarray:
    """The colours of H×W values from 0 to `limit`, with the opacity SHOWN over a ground: H×W×3 in 0..1."""
    import matplotlib  # takes a second, which photos without maps need not spend

    colour = matplotlib.colormaps[IMPORTANCE](np.clip(values / limit, 0, 1))[..., :3]
    return SHOWN * colour + (1 - SHOWN) * ground
