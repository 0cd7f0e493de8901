"""What surrounds the face and is the same for every expression: background, hair, ears, neck, clothes, glasses."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from ferlib.data.synthetic.surface import Grid, blend, bump, soft


def draw_background(grid: Grid, identity: SimpleNamespace, view: SimpleNamespace) -> np.ndarray:
    """Backdrop, hair behind the head, neck, clothes and ears (3,H,W)."""
    x, y, pixel, width = grid.x, grid.y, grid.pixel, identity.shape["face_width"]
    fade = 0.9 + 0.18 * np.clip(0.4 * view.light[0] * x - 0.35 * y, -1, 1)
    image = view.backdrop[:, None, None] * fade
    if identity.hair_style == "long":
        reach = width + 0.11 + 0.05 * np.clip(y, 0, 1) + 0.02 * np.sin(5 * y + identity.hair_phase)
        blend(image, identity.hair * 0.62, soft(reach - np.abs(x), 2 * pixel) * soft(y + 0.3, 0.1))
    side = np.clip(1 + 0.25 * view.light[0] * x, 0.6, 1.3)
    neck = soft(0.62 * width - np.abs(x) + 0.25 * np.clip(y - 1.1, 0, None), 2 * pixel) * soft(y - 0.5, pixel)
    blend(image, identity.skin[:, None, None] * (0.55 * side), neck)
    blend(image, view.clothes, soft(y - 1.28 - 0.10 * np.exp(-4 * x * x) + 0.08 * x * x, 2 * pixel))
    ear_x = np.abs(x + 0.05 * view.yaw) - width - 0.01
    ear = 1 - np.sqrt((ear_x / 0.085) ** 2 + ((y - 0.02) / 0.20) ** 2)
    blend(image, identity.skin[:, None, None] * (0.78 * side), soft(ear * 0.085, pixel))
    blend(image, identity.skin * 0.5, 0.5 * bump(ear_x, y, 0.015, 0.0, 0.035, 0.12))
    return image


def hair_mask(grid: Grid, identity: SimpleNamespace) -> np.ndarray:
    """Where hair lies over the head (H,W)."""
    x, y, pixel, style = grid.x, grid.y, grid.pixel, identity.hair_style
    width = identity.shape["face_width"]
    volume = {"short": 0.05, "parted": 0.09, "fringe": 0.09, "long": 0.13, "curly": 0.15}[style]
    r = np.sqrt((x / (width + volume)) ** 2 + ((y + 0.1) / (0.99 + volume)) ** 2)
    if style == "curly":
        r = r + 0.02 * np.sin(13 * np.arctan2(x, -y) + identity.hair_phase)
    edge = np.clip(np.abs(x) * (1 / width), 0, 1)
    low = {"short": -0.05, "parted": -0.02, "fringe": 0.05, "long": 0.40, "curly": 0.08}[style]  # reach at the temples
    line = identity.hairline + (low - identity.hairline) * edge**6
    if style == "parted":
        line = line + 0.16 * np.clip(x * math.copysign(1, math.sin(identity.hair_phase)) + 0.25, 0, 1)
    if style == "fringe":
        tips = 0.012 * np.sin(17 * x + identity.hair_phase) + 0.012 * np.sin(41 * x)
        line = line + (0.17 + tips) * np.clip(1.4 - edge, 0, 1)
    if style == "curly":
        line = line + 0.03 * np.sin(22 * x + identity.hair_phase)
    return soft((1 - r) * width, 2 * pixel) * soft(line - y, 2.5 * pixel)


def draw_foreground(grid: Grid, identity: SimpleNamespace, view: SimpleNamespace) -> np.ndarray:
    """Hair over the forehead and glasses (4,H,W): colours times opacity, and opacity, of what covers the face."""
    x, y = grid.x, grid.y
    foreground = np.zeros((4, *x.shape), np.float32)
    if identity.hair_style != "bald":
        angle = np.arctan2(x, 0.4 - y)
        strands = 1 + 0.09 * np.sin(55 * angle + 3 * np.sin(7 * y) + identity.hair_phase) + 0.06 * np.sin(121 * angle)
        sheen = 0.72 + 0.35 * bump(x, y, 0.4 * view.light[0], -0.95, 0.45, 0.16) + 0.15 * view.light[0] * x
        shaded = identity.hair[:, None, None] * (strands * sheen)
        blend(foreground, np.concatenate([shaded, np.ones_like(shaded[:1])]), hair_mask(grid, identity))
    if identity.glasses:
        draw_glasses(foreground, grid, identity)
    return foreground


def draw_glasses(foreground: np.ndarray, grid: Grid, identity: SimpleNamespace) -> None:
    """Rims, bridge and temples, and lenses with a faint reflection."""
    pixel, below = grid.pixel, grid.v - identity.shape["eye_height"]
    dx, dy = (grid.m - identity.shape["eye_spacing"]) * (1 / 0.235), (below - 0.03) * (1 / 0.185)
    r = np.sqrt(np.sqrt(dx**4 + dy**4))
    rim = soft(0.020 - 0.2 * np.abs(r - 1), 1.3 * pixel)
    bridge = soft(0.014 - np.abs(below + 0.02), pixel) * soft(0.12 - grid.m, pixel)
    temple = soft(0.014 - np.abs(below + 0.05), pixel) * soft(grid.m - 0.56, pixel)
    temple *= soft(0.78 - np.abs(grid.x), pixel)
    reflection = 0.06 + 0.10 * soft(0.04 - np.abs(dx + 0.6 * dy), 0.2)
    blend(foreground, (1, 1, 1, 1), reflection * soft(1 - r, 0.05))
    blend(foreground, (*identity.frame, 1), np.maximum(np.maximum(rim, bridge), temple))
