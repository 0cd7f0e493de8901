"""The parts of a face: outline, relief, light, folds, eyes, brows, nose, mouth, beard, skin."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ferlib.data.synthetic.surface import Grid, Scene, blend, bump, soft


def head_distance(grid: Grid, shape: SimpleNamespace) -> np.ndarray:
    """Distance from the outline of the face, an egg whose lower half narrows to the chin; positive inside."""
    chin = shape.chin + shape.jaw_drop
    t = np.clip(grid.y * (1 / chin), 0, 1.2)
    width = shape.face_width * (1 - shape.jaw * t * t)
    skull = (grid.y * (1 / 1.08)) ** 2
    down = np.where(grid.y > 0, t * t * (0.55 + 0.45 * t * t), skull * (0.7 + 0.3 * skull))
    r = np.sqrt((grid.x / width) ** 2 + down)
    return (1 - r) * shape.face_width


def relief(grid: Grid, inside: np.ndarray, shape: SimpleNamespace) -> np.ndarray:
    """Height of the skin above the plane of the picture: an ovoid with nose, sockets, cheekbones, lips and chin."""
    u, v, m = grid.u, grid.v, grid.m
    r = 1 - inside * (1 / shape.face_width)
    height = 0.62 * np.sqrt(np.clip(1.06 - r * r, 0.02, None))
    tip = shape.nose_length + shape.nose_lift
    ridge = np.clip((v + 0.22) * (1 / (tip + 0.12)), 0, 1) * soft(tip + 0.015 - v, 0.10)
    height += 0.125 * ridge * np.exp(-((u / (0.075 + 0.045 * ridge)) ** 2))
    height += 0.04 * bump(u, v, 0, tip - 0.055, 0.09, 0.075)
    height += 0.05 * bump(m, v, shape.nose_width - 0.02, tip - 0.035, 0.05, 0.05)
    height -= 0.075 * bump(m, v, shape.eye_spacing - 0.03, shape.eye_height - 0.03, 0.20, 0.12)
    height += 0.035 * bump(m, v, 0.30, shape.brow_height + 0.4 * shape.brow_inner, 0.24, 0.08)
    height += 0.035 * bump(m, v, 0.46, 0.17, 0.17, 0.15)
    height += 0.065 * shape.cheek_raise * bump(m, v, 0.40, 0.17, 0.15, 0.13)
    height += 0.05 * bump(u, v, 0, shape.mouth_height, 0.30, 0.17)
    height += 0.05 * bump(u, v, 0, shape.chin - 0.13 + shape.jaw_drop, 0.14, 0.10)
    height -= 0.025 * bump(u, v, 0, shape.mouth_height + shape.open_down + 0.16, 0.15, 0.05)
    return height


def light_skin(height: np.ndarray, grid: Grid, view: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """Lambert's diffuse light on the relief, about 0.3..1.2, and a broad highlight 0..1."""
    slope = np.gradient(height, grid.pixel)
    across, down, toward = view.light
    norm = 1 / np.sqrt(1 + slope[0] ** 2 + slope[1] ** 2)
    facing = np.clip((toward - across * slope[1] - down * slope[0]) * norm, 0, None)
    return view.ambient + (1.12 - view.ambient) * facing, facing**12


def crease_lines(grid: Grid, shape: SimpleNamespace) -> np.ndarray:
    """Depth 0..1 of the folds: forehead, glabella, nose root, nasolabial, crow's feet, chin."""
    u, v, m = grid.u, grid.v, grid.m
    lines = np.zeros_like(u)
    if shape.forehead_lines > 0:
        wave = np.exp(-((np.sin((v + 0.62 + 0.25 * (m - 0.2) ** 2) * 36)) ** 2) * 7)
        lines += 0.45 * shape.forehead_lines * wave * bump(u, v, 0, -0.62, 0.30, 0.11)
    if shape.frown_lines > 0:
        lines += 0.9 * shape.frown_lines * bump(m, v, 0.055 + 0.1 * (v + 0.3), shape.brow_height + 0.045, 0.022, 0.085)
    if shape.nose_lines > 0:
        wave = np.exp(-((np.sin((v - 0.5 * m) * 42)) ** 2) * 4)
        lines += 0.8 * shape.nose_lines * wave * bump(m, v, 0.05, -0.06, 0.085, 0.11)
    fold = shape.nose_width + 0.04 + 0.85 * (v - 0.22) - 0.75 * (v - 0.22) ** 2 + 0.6 * (shape.mouth_width - 0.285)
    fade = soft(v - 0.24, 0.12) * soft(0.66 - v, 0.22)
    lines += 0.55 * shape.nasolabial * fade * np.exp(-(((m - fold) * (1 / 0.036)) ** 2))
    if shape.crows_feet > 0:
        ax, ay = m - (shape.eye_spacing + 0.12), v - shape.eye_height - 0.01
        rays = np.exp(-((np.sin(np.arctan2(ay, ax + 1e-6) * 5.5)) ** 2) * 5)
        lines += 0.6 * shape.crows_feet * rays * bump(ax, ay, 0.12, 0.01, 0.055, 0.10)
    if shape.chin_boss > 0:
        lines += 0.6 * shape.chin_boss * bump(u, v, 0, shape.mouth_height + 0.175 - 0.6 * u * u, 0.17, 0.028)
    return np.clip(lines, 0, 1)


def draw_eyes(albedo: np.ndarray, grid: Grid, shape: SimpleNamespace, scene: Scene) -> None:
    """Eyeball, iris, pupil, highlight, lids with lashes, crease and bag."""
    identity, view = scene.identity, scene.view
    v, pixel = grid.v, grid.pixel
    t = (grid.m - shape.eye_spacing) * (1 / shape.eye_width)  # -1 inner corner, 1 outer corner
    arch = np.clip(1 - t * t, 0, None)
    level = shape.eye_height + shape.lid_slant * t
    upper = level - shape.upper_lid * np.sqrt(arch) * (1 - 0.12 * t)
    lower = level + shape.lower_lid * arch * (1 + 0.15 * t)
    within = soft(1 - np.abs(t), 3 * pixel)
    crease = np.exp(-(((v - upper + 0.045) * (1 / 0.020)) ** 2)) * within
    blend(albedo, identity.skin * 0.62, 0.45 * crease)
    bag = np.exp(-(((v - lower - 0.040) * (1 / 0.022)) ** 2)) * np.clip(1.1 - t * t, 0, 1)
    blend(albedo, identity.skin * 0.55, 0.55 * shape.eye_bags * bag)
    opened = soft(np.minimum(v - upper, lower - v), pixel) * within
    globe = 1.0 - 0.3 * t * t * t * t - 0.35 * np.exp(-np.clip(v - upper, 0, None) * (1 / 0.022))
    blend(albedo, globe * np.array([1.0, 0.97, 0.95], np.float32)[:, None, None], opened)
    ox, oy = grid.u - grid.side * shape.eye_spacing - view.gaze, v - shape.eye_height + 0.012
    r = np.sqrt(ox * ox + oy * oy)
    blend(albedo, identity.iris, opened * soft(0.080 - r, pixel))
    blend(albedo, identity.iris * 0.35, opened * soft(0.012 - np.abs(r - 0.076), 1.5 * pixel) * 0.7)
    blend(albedo, (0.03, 0.03, 0.03), opened * soft(0.036 - r, pixel))
    hx, hy = ox - 0.03 * view.light[0], oy + 0.028
    blend(albedo, (1.25, 1.25, 1.25), opened * soft(0.017 - np.sqrt(hx * hx + hy * hy), pixel))
    lash = soft(0.013 * (1.15 + 0.5 * t) - np.abs(v - upper + 0.004), pixel) * soft(1.06 - np.abs(t), 3 * pixel)
    blend(albedo, identity.hair * 0.25, 0.9 * lash)
    rim = soft(0.006 - np.abs(v - lower), 1.5 * pixel) * within
    blend(albedo, identity.skin * 0.45, 0.6 * rim)


def draw_brows(albedo: np.ndarray, grid: Grid, shape: SimpleNamespace, scene: Scene) -> None:
    """Tapered strokes whose inner, middle and outer parts move on their own."""
    identity = scene.identity
    t = (grid.m - shape.brow_gap) * (1 / 0.40)  # 0 inner end, 1 outer end
    s = np.clip(t, 0, 1)
    line = shape.brow_height + 0.012 - shape.brow_arch * s * (1.3 - s) * 2.4
    line += shape.brow_inner * (1 - s) ** 2 + shape.brow_middle * 2 * s * (1 - s) + shape.brow_outer * s * s
    thick = shape.brow_thickness * (1.05 - 0.75 * s * s) * np.clip(0.55 + 3 * t, 0.2, 1)
    mask = soft(thick - np.abs(grid.v - line), 0.018 + grid.pixel) * soft(t, 0.12) * soft(1 - t, 0.10)
    hairs = 0.88 + 0.12 * np.sin(170 * (grid.m + 0.7 * (grid.v - line)))
    colour = identity.hair * 0.75 if identity.hair.mean() < 0.5 else identity.hair * 0.6
    blend(albedo, colour, 0.88 * mask * hairs)


def draw_nose(albedo: np.ndarray, grid: Grid, shape: SimpleNamespace, scene: Scene) -> None:
    """Nostrils, the wings' edge, the shadow below; the volume itself comes from the relief."""
    identity, view = scene.identity, scene.view
    u, v, m = grid.u - 0.02 * view.yaw, grid.v, grid.m
    base = shape.nose_length + shape.nose_lift
    blend(albedo, identity.skin * 0.5, 0.40 * bump(u, v, -0.05 * view.light[0], base + 0.045, 0.12, 0.035))
    wing = bump(m, v, shape.nose_width + 0.030, base - 0.035, 0.018, 0.045)
    blend(albedo, identity.skin * 0.5, 0.55 * wing)
    blend(albedo, identity.skin * 0.18, 0.85 * bump(np.abs(u), v, 0.45 * shape.nose_width, base + 0.008, 0.036, 0.017))


def draw_mouth(albedo: np.ndarray, grid: Grid, shape: SimpleNamespace, scene: Scene) -> None:
    """The two lips and what shows between them, bounded by four curves that meet in the corners."""
    identity = scene.identity
    v, m, pixel = grid.v, grid.m, grid.pixel
    t = m * (1 / shape.mouth_width)  # 0 middle, 1 corner
    square = t * t
    oval = np.sqrt(np.clip(1 - square, 0, None))
    opening = oval + shape.mouth_square * (np.sqrt(np.clip(1 - square * square, 0, None)) - oval)
    middle = shape.mouth_height + shape.mouth_curve * (square - 0.4) + shape.mouth_corner * square * square
    inner_up, inner_down = middle - shape.open_up * opening, middle + shape.open_down * opening
    bow = (1 - 0.28 * np.exp(-((m * (1 / 0.045)) ** 2))) * (1 - 0.45 * np.clip(square, 0, 1))
    outer_up = inner_up - max(shape.upper_lip, 0.012) * oval * bow
    outer_down = inner_down + max(shape.lower_lip, 0.018) * oval
    within = soft((1 - t) * shape.mouth_width, 2 * pixel)
    upper = soft(np.minimum(v - outer_up, inner_up - v), 1.5 * pixel) * within
    lower = soft(np.minimum(v - inner_down, outer_down - v), 1.5 * pixel) * within
    lip = shape.mouth_height + shape.open_down  # where the lower lip begins
    blend(albedo, identity.skin * 0.55, 0.35 * bump(m, v, 0, lip + shape.lower_lip + 0.035, 0.16, 0.03))
    blend(albedo, identity.lips * 0.86, upper)
    blend(albedo, identity.lips * 1.06, lower)
    blend(albedo, identity.lips * 1.35, 0.4 * lower * bump(m, v, 0, lip + 0.4 * shape.lower_lip, 0.11, 0.022))
    gap = soft(np.minimum(v - inner_up, inner_down - v) + 0.3 * pixel, pixel) * within
    draw_teeth(albedo, grid, shape, gap, inner_up, inner_down)
    closed = within if shape.open_up + shape.open_down < 0.03 else 0 * within
    seam = closed * np.exp(-(((v - middle) * (1 / 0.013)) ** 2))
    corner_height = shape.mouth_height + 0.6 * shape.mouth_curve + shape.mouth_corner
    corner = bump(m, v, shape.mouth_width + 0.005, corner_height, 0.028, 0.026)
    blend(albedo, identity.lips * 0.30, np.clip(0.75 * seam + 0.55 * corner, 0, 1))


def draw_teeth(
    albedo: np.ndarray,
    grid: Grid,
    shape: SimpleNamespace,
    gap: np.ndarray,
    inner_up: np.ndarray,
    inner_down: np.ndarray,
) -> None:
    """The cavity of the mouth, tongue and both rows of teeth, all within the gap (H,W) between the lips."""
    v, m, pixel = grid.v, grid.m, grid.pixel
    blend(albedo, (0.20, 0.06, 0.06), gap)
    blend(albedo, (0.62, 0.28, 0.28), 0.8 * gap * bump(m, v, 0, shape.mouth_height + shape.open_down, 0.14, 0.06))
    teeth = gap * (1 - 0.12 * np.exp(-12 * np.sin(48 * m) ** 2))
    blend(albedo, (0.90, 0.88, 0.84), teeth * min(1, 1.6 * shape.upper_teeth) * soft(inner_up + 0.065 - v, 2 * pixel))
    blend(albedo, (0.83, 0.81, 0.77), teeth * min(1, 1.3 * shape.lower_teeth) * soft(v - inner_down + 0.045, 2 * pixel))


def draw_beard(albedo: np.ndarray, grid: Grid, shape: SimpleNamespace, scene: Scene) -> None:
    """Stubble, moustache or full beard: hair colour over the skin, left free around the lips."""
    identity = scene.identity
    if identity.beard == "none":
        return
    u, v, m = grid.u, grid.v, grid.m
    lip = shape.mouth_height - shape.open_up - 0.115 + 0.55 * m * m
    moustache = soft(0.06 - np.abs(v - lip), 0.05) * soft(0.30 - m, 0.12)
    jaw = soft(v - (0.62 - 1.1 * np.clip(m - 0.38, 0, None)) + 0.04 * np.sin(9 * m), 0.14)
    goatee = soft(v - shape.mouth_height - shape.open_down - 0.11, 0.10)
    cheek = jaw * np.maximum(soft(m - 0.33, 0.12), goatee)
    cover = {"stubble": 0.32, "moustache": 0.85, "full": 0.86}[identity.beard]
    mask = moustache if identity.beard == "moustache" else np.maximum(moustache, cheek)
    strands = 0.85 + 0.15 * np.sin(90 * u + 25 * np.sin(17 * v)) * np.sin(60 * v)
    blend(albedo, identity.hair * 0.9, cover * mask * strands)


def skin_colour(grid: Grid, lines: np.ndarray, shape: SimpleNamespace, identity: SimpleNamespace) -> np.ndarray:
    """Skin (3,H,W) with flushed cheeks and nose, darker sockets, and shadow in the folds."""
    u, v, m, skin = grid.u, grid.v, grid.m, identity.skin
    albedo = np.empty((3, *u.shape), np.float32)
    albedo[:] = skin[:, None, None]
    flush = bump(m, v, 0.42, 0.22, 0.2, 0.16) + 0.5 * bump(u, v, 0, 0.25, 0.12, 0.1)
    blend(albedo, skin * np.array([1.0, 0.75, 0.72], np.float32), identity.blush * flush)
    blend(albedo, skin * 0.72, 0.35 * bump(m, v, shape.eye_spacing - 0.04, shape.eye_height - 0.02, 0.2, 0.1))
    blend(albedo, skin * 0.42, 0.75 * lines)
    return albedo
