"""The drawing surface: face coordinates of every pixel, and soft shapes blended over an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

Colour = np.ndarray | tuple[float, ...]
Position = float | np.ndarray


class Grid:
    """Coordinates of every pixel: x, y of the head's outline, u, v of its features (turned by the pose), m = |u|."""

    def __init__(self, x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float) -> None:
        self.x, self.y, self.u, self.v, self.pixel = x, y, u, v, pixel
        self.m, self.side = np.abs(u), np.sign(u)

    def window(self, top: float, bottom: float, reach: float = 9) -> tuple[tuple, Grid]:
        """The part that holds features with top < v < bottom and |u| < reach: its slices and its own grid."""
        rows = np.flatnonzero((self.v.max(1) > top) & (self.v.min(1) < bottom))
        columns = np.flatnonzero(self.m.min(0) < reach)
        cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return (slice(None), *cut), Grid(self.x[cut], self.y[cut], self.u[cut], self.v[cut], self.pixel)


@dataclass(frozen=True)
class Scene:
    """What the expressive and the neutral picture of one view share."""

    grid: Grid
    windows: dict[str, tuple[tuple, Grid]]  # feature → the part of the grid that it may cover
    background: np.ndarray  # 3,H,W
    foreground: np.ndarray  # 4,H,W: colours times opacity, and opacity
    identity: SimpleNamespace
    view: SimpleNamespace


def make_grid(canvas: int, view: SimpleNamespace) -> Grid:
    """Face coordinates of a square picture: turned by the roll, features moved by yaw and pitch as on a globe."""
    half = 1.14 / view.scale
    line = ((np.arange(canvas) + 0.5) / canvas * 2 - 1) * half
    cos, sin = math.cos(view.roll), math.sin(view.roll)
    across, down = line[None, :] - view.shift[0], line[:, None] - view.shift[1] + 0.06
    x = (cos * across + sin * down).astype(np.float32)
    y = (cos * down - sin * across).astype(np.float32)
    u = x - 0.13 * view.yaw * np.clip(1 - (x / 0.9) ** 2, 0, 1)
    v = y - 0.07 * view.pitch * np.clip(1 - (y / 1.1) ** 2, 0, 1) + 0.10 * view.pitch * x * x
    return Grid(x, y, u, v, 2 * half / canvas)


def soft(distance: np.ndarray, width: float) -> np.ndarray:
    """0 outside, 1 inside a shape, given the signed distance to its edge (positive inside), over a soft edge."""
    return np.clip(distance * (1 / width) + 0.5, 0, 1)


def bump(x: np.ndarray, y: np.ndarray, cx: Position, cy: Position, rx: float, ry: float) -> np.ndarray:
    """A Gaussian hill of height 1 at (cx, cy) with radii rx, ry."""
    dx, dy = (x - cx) * (1 / rx), (y - cy) * (1 / ry)
    return np.exp(-(dx * dx + dy * dy))


def blend(image: np.ndarray, colour: Colour, mask: np.ndarray) -> None:
    """Blends a colour (C,) or (C,H,W) into the image (C,H,W), in place, with the opacity of the mask (H,W) in 0..1."""
    values = np.asarray(colour, np.float32)
    image += ((values[:, None, None] if values.ndim == 1 else values) - image) * mask
