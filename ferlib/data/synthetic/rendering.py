"""One picture of one face: the scene that expressions share, its parts drawn, lit, averaged down and blurred."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ferlib.data.synthetic.features import (
    crease_lines,
    draw_beard,
    draw_brows,
    draw_eyes,
    draw_mouth,
    draw_nose,
    head_distance,
    light_skin,
    relief,
    skin_colour,
)
from ferlib.data.synthetic.surface import Grid, Scene, blend, make_grid, soft
from ferlib.data.synthetic.surroundings import draw_background, draw_foreground

REGIONS = ("brows", "eyes", "nose", "mouth", "cheeks")  # evidence value k is REGIONS[k - 1]; 0 is no evidence
LANDMARKS = {  # of the regions: centre |u|, v and radii
    "brows": (0.25, -0.47, 0.40, 0.24), "eyes": (0.36, -0.11, 0.30, 0.15), "nose": (0.0, 0.10, 0.17, 0.28),
    "mouth": (0.0, 0.75, 0.55, 0.32), "cheeks": (0.42, 0.24, 0.20, 0.24),
}  # fmt: skip


FEATURES = {  # blended in this order: how each is drawn, and its window (lowest and highest v, largest |u|)
    "beard": (draw_beard, (0.20, 1.30)),
    "eyes": (draw_eyes, (-0.32, 0.08, 0.62)),
    "brows": (draw_brows, (-0.65, -0.12, 0.60)),
    "nose": (draw_nose, (0.10, 0.50, 0.40)),
    "mouth": (draw_mouth, (0.30, 1.10, 0.55)),
}


def make_scene(canvas: int, identity: SimpleNamespace, view: SimpleNamespace) -> Scene:
    """What all expressions of a picture of canvas×canvas pixels share: coordinates, background, foreground."""
    grid = make_grid(canvas, view)
    windows = {name: grid.window(*bounds) for name, (_, bounds) in FEATURES.items()}
    background, foreground = draw_background(grid, identity, view), draw_foreground(grid, identity, view)
    return Scene(grid, windows, background, foreground, identity, view)


def render(scene: Scene, shape: SimpleNamespace) -> np.ndarray:
    """One picture of one shape (3,H,W), float, before blur and noise."""
    grid, skin, view = scene.grid, scene.identity.skin, scene.view
    inside = head_distance(grid, shape)
    image = scene.background.copy()
    neck = soft(0.6 * shape.face_width - np.abs(grid.x), 0.1) * soft(grid.y - 0.6, 0.3)
    blend(image, skin * 0.30, 0.6 * neck * soft(inside + 0.10, 0.22))  # the shadow of the chin
    lines = crease_lines(grid, shape)
    light, highlight = light_skin(relief(grid, inside, shape) - 0.02 * lines, grid, view)
    albedo = skin_colour(grid, lines, shape, scene.identity)
    for name, (draw, _) in FEATURES.items():
        cut, part = scene.windows[name]
        draw(albedo[cut], part, shape, scene)
    albedo *= light
    albedo += skin[:, None, None] * (0.10 * highlight)
    blend(image, albedo, soft(inside, 1.5 * grid.pixel))
    image = image * (1 - scene.foreground[3]) + scene.foreground[:3]
    return image * (view.gain * np.array([1 + view.warmth, 1, 1 - view.warmth], np.float32))[:, None, None]


def develop(image: np.ndarray, size: int, blur: float) -> np.ndarray:
    """The canvas averaged down to (3,size,size) and blurred, 0..255."""
    from scipy.ndimage import gaussian_filter  # half of the time that importing this module would take

    step = image.shape[1] // size
    small = image.reshape(3, size, step, size, step).mean((2, 4))
    return gaussian_filter(np.clip(small, 0, 1), (0, blur * size, blur * size)) * 255


def region_map(grid: Grid, step: int) -> np.ndarray:
    """The region 1..5 (H,W) whose landmark is nearest to each pixel, measured in the region's radii."""
    m, v = (coordinate[step // 2 :: step, step // 2 :: step] for coordinate in (grid.m, grid.v))
    far = [((m - x) / rx) ** 2 + ((v - y) / ry) ** 2 for x, y, rx, ry in (LANDMARKS[name] for name in REGIONS)]
    return (1 + np.argmin(far, axis=0)).astype(np.uint8)
