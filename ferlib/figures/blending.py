"""Colours of maps over faces; imports no matplotlib until a map without signs is coloured."""

from __future__ import annotations

import numpy as np
from PIL import ImageColor

from ferlib.figures.palette import BLUE, VERMILION

FOR, AGAINST = (np.array(ImageColor.getrgb(color)) / 255 for color in (VERMILION, BLUE))  # evidence: R,G,B in 0..1
IMPORTANCE = "cividis"  # matplotlib's colour map of values without a sign


def to_rgb(image: np.ndarray) -> np.ndarray:
    """H×W×1 or H×W×3 in 0..1 → H×W×3."""
    return np.broadcast_to(np.clip(image, 0, 1), (*image.shape[:2], 3))


def to_grey(image: np.ndarray) -> np.ndarray:
    """H×W×1 or H×W×3 in 0..1 → H×W."""
    return image.mean(axis=2)


def overlay(image: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """The face in pale grey under the colours of H×W signed values, opaque at ±limit: H×W×3 in 0..1."""
    strength = np.clip(np.abs(values) / limit, 0, 1)[..., None]
    face = np.repeat((0.35 + 0.6 * to_grey(image))[..., None], 3, axis=2)
    colour = np.where(values[..., None] > 0, FOR, AGAINST)
    return face + (colour - face) * 0.9 * strength**0.75


def stretch(image: np.ndarray) -> np.ndarray:
    """The face in grey from black to white, so that a dark one can be seen under colours: H×W×1 in 0..1."""
    grey = to_grey(image)
    low, high = np.quantile(grey, (0.01, 0.99))
    return np.clip((grey - low) / max(high - low, 0.05), 0, 1)[..., None]


def tint(image: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """The face in the colours of H×W values from 0 to `limit`, shaded by its own grey: H×W×3 in 0..1."""
    import matplotlib  # takes a second, which photos without maps need not spend

    colour = matplotlib.colormaps[IMPORTANCE](np.clip(values / limit, 0, 1))[..., :3]
    return (0.25 + 0.75 * colour) * (0.5 + 0.5 * to_grey(image)[..., None])
