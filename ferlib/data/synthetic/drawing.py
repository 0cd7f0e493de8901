"""Draws one face: coordinates of a posed head, then skin, eyes, brows, nose, mouth, hair and glasses as soft shapes."""

import math
from types import SimpleNamespace

import numpy as np
from scipy.ndimage import gaussian_filter

REGIONS = ("brows", "eyes", "nose", "mouth", "cheeks")  # evidence value k is REGIONS[k - 1]; 0 is no evidence
LANDMARKS = {  # of the regions: centre |u|, v and radii
    "brows": (0.25, -0.47, 0.40, 0.24), "eyes": (0.36, -0.11, 0.30, 0.15), "nose": (0.0, 0.10, 0.17, 0.28),
    "mouth": (0.0, 0.75, 0.55, 0.32), "cheeks": (0.42, 0.24, 0.20, 0.24),
}  # fmt: skip


# ── the drawing surface ───────────────────────────────────────────────────────────────────────────────────────────────


class Grid:
    """Coordinates of every pixel: x, y of the head's outline, u, v of its features (turned by the pose), m = |u|."""

    def __init__(self, x, y, u, v, pixel):
        self.x, self.y, self.u, self.v, self.pixel = x, y, u, v, pixel
        self.m, self.side = np.abs(u), np.sign(u)

    def window(self, top: float, bottom: float, reach: float = 9) -> tuple[tuple, "Grid"]:
        """The part that holds features with top < v < bottom and |u| < reach: its slices and its own grid."""
        rows = np.flatnonzero((self.v.max(1) > top) & (self.v.min(1) < bottom))
        columns = np.flatnonzero(self.m.min(0) < reach)
        cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return (slice(None), *cut), Grid(self.x[cut], self.y[cut], self.u[cut], self.v[cut], self.pixel)


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


def bump(x, y, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """A Gaussian hill of height 1 at (cx, cy) with radii rx, ry."""
    dx, dy = (x - cx) * (1 / rx), (y - cy) * (1 / ry)
    return np.exp(-(dx * dx + dy * dy))


def paint(image: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> None:
    """Lay a colour (3,) or (3,H,W) over the image (3,H,W), in place, where the mask (H,W) says."""
    colour = np.asarray(colour, np.float32)
    image += ((colour[:, None, None] if colour.ndim == 1 else colour) - image) * mask


# ── the parts of a face ───────────────────────────────────────────────────────────────────────────────────────────────
# A painter lays one part over the albedo (3,H,W), in place, on the part's own window of the grid.


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


def paint_eyes(albedo, grid, shape, identity, view):
    """Eyeball, iris, pupil, highlight, lids with lashes, crease and bag."""
    v, pixel = grid.v, grid.pixel
    t = (grid.m - shape.eye_spacing) * (1 / shape.eye_width)  # -1 inner corner, 1 outer corner
    arch = np.clip(1 - t * t, 0, None)
    level = shape.eye_height + shape.lid_slant * t
    upper = level - shape.upper_lid * np.sqrt(arch) * (1 - 0.12 * t)
    lower = level + shape.lower_lid * arch * (1 + 0.15 * t)
    within = soft(1 - np.abs(t), 3 * pixel)
    crease = np.exp(-(((v - upper + 0.045) * (1 / 0.020)) ** 2)) * within
    paint(albedo, identity.skin * 0.62, 0.45 * crease)
    bag = np.exp(-(((v - lower - 0.040) * (1 / 0.022)) ** 2)) * np.clip(1.1 - t * t, 0, 1)
    paint(albedo, identity.skin * 0.55, 0.55 * shape.eye_bags * bag)
    opened = soft(np.minimum(v - upper, lower - v), pixel) * within
    globe = 1.0 - 0.3 * t * t * t * t - 0.35 * np.exp(-np.clip(v - upper, 0, None) * (1 / 0.022))
    paint(albedo, globe * np.array([1.0, 0.97, 0.95], np.float32)[:, None, None], opened)
    ox, oy = grid.u - grid.side * shape.eye_spacing - view.gaze, v - shape.eye_height + 0.012
    r = np.sqrt(ox * ox + oy * oy)
    paint(albedo, identity.iris, opened * soft(0.080 - r, pixel))
    paint(albedo, identity.iris * 0.35, opened * soft(0.012 - np.abs(r - 0.076), 1.5 * pixel) * 0.7)
    paint(albedo, (0.03, 0.03, 0.03), opened * soft(0.036 - r, pixel))
    hx, hy = ox - 0.03 * view.light[0], oy + 0.028
    paint(albedo, (1.25, 1.25, 1.25), opened * soft(0.017 - np.sqrt(hx * hx + hy * hy), pixel))
    lash = soft(0.013 * (1.15 + 0.5 * t) - np.abs(v - upper + 0.004), pixel) * soft(1.06 - np.abs(t), 3 * pixel)
    paint(albedo, identity.hair * 0.25, 0.9 * lash)
    rim = soft(0.006 - np.abs(v - lower), 1.5 * pixel) * within
    paint(albedo, identity.skin * 0.45, 0.6 * rim)


def paint_brows(albedo, grid, shape, identity, view):
    """Tapered strokes whose inner, middle and outer parts move on their own."""
    t = (grid.m - shape.brow_gap) * (1 / 0.40)  # 0 inner end, 1 outer end
    s = np.clip(t, 0, 1)
    line = shape.brow_height + 0.012 - shape.brow_arch * s * (1.3 - s) * 2.4
    line += shape.brow_inner * (1 - s) ** 2 + shape.brow_middle * 2 * s * (1 - s) + shape.brow_outer * s * s
    thick = shape.brow_thickness * (1.05 - 0.75 * s * s) * np.clip(0.55 + 3 * t, 0.2, 1)
    mask = soft(thick - np.abs(grid.v - line), 0.018 + grid.pixel) * soft(t, 0.12) * soft(1 - t, 0.10)
    hairs = 0.88 + 0.12 * np.sin(170 * (grid.m + 0.7 * (grid.v - line)))
    colour = identity.hair * 0.75 if identity.hair.mean() < 0.5 else identity.hair * 0.6
    paint(albedo, colour, 0.88 * mask * hairs)


def paint_nose(albedo, grid, shape, identity, view):
    """Nostrils, the wings' edge, the shadow below; the volume itself comes from the relief."""
    u, v, m = grid.u - 0.02 * view.yaw, grid.v, grid.m
    base = shape.nose_length + shape.nose_lift
    paint(albedo, identity.skin * 0.5, 0.40 * bump(u, v, -0.05 * view.light[0], base + 0.045, 0.12, 0.035))
    wing = bump(m, v, shape.nose_width + 0.030, base - 0.035, 0.018, 0.045)
    paint(albedo, identity.skin * 0.5, 0.55 * wing)
    paint(albedo, identity.skin * 0.18, 0.85 * bump(np.abs(u), v, 0.45 * shape.nose_width, base + 0.008, 0.036, 0.017))


def paint_mouth(albedo, grid, shape, identity, view):
    """The two lips and what shows between them, bounded by four curves that meet in the corners."""
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
    paint(albedo, identity.skin * 0.55, 0.35 * bump(m, v, 0, lip + shape.lower_lip + 0.035, 0.16, 0.03))
    paint(albedo, identity.lips * 0.86, upper)
    paint(albedo, identity.lips * 1.06, lower)
    paint(albedo, identity.lips * 1.35, 0.4 * lower * bump(m, v, 0, lip + 0.4 * shape.lower_lip, 0.11, 0.022))
    gap = soft(np.minimum(v - inner_up, inner_down - v) + 0.3 * pixel, pixel) * within
    paint_teeth(albedo, grid, shape, gap, inner_up, inner_down)
    closed = within if shape.open_up + shape.open_down < 0.03 else 0 * within
    seam = closed * np.exp(-(((v - middle) * (1 / 0.013)) ** 2))
    corner_height = shape.mouth_height + 0.6 * shape.mouth_curve + shape.mouth_corner
    corner = bump(m, v, shape.mouth_width + 0.005, corner_height, 0.028, 0.026)
    paint(albedo, identity.lips * 0.30, np.clip(0.75 * seam + 0.55 * corner, 0, 1))


def paint_teeth(albedo, grid, shape, gap, inner_up, inner_down):
    """The cavity of the mouth, tongue and both rows of teeth, all within the gap (H,W) between the lips."""
    v, m, pixel = grid.v, grid.m, grid.pixel
    paint(albedo, (0.20, 0.06, 0.06), gap)
    paint(albedo, (0.62, 0.28, 0.28), 0.8 * gap * bump(m, v, 0, shape.mouth_height + shape.open_down, 0.14, 0.06))
    teeth = gap * (1 - 0.12 * np.exp(-12 * np.sin(48 * m) ** 2))
    paint(albedo, (0.90, 0.88, 0.84), teeth * min(1, 1.6 * shape.upper_teeth) * soft(inner_up + 0.065 - v, 2 * pixel))
    paint(albedo, (0.83, 0.81, 0.77), teeth * min(1, 1.3 * shape.lower_teeth) * soft(v - inner_down + 0.045, 2 * pixel))


def paint_beard(albedo, grid, shape, identity, view):
    """Stubble, moustache or full beard: hair colour over the skin, left free around the lips."""
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
    paint(albedo, identity.hair * 0.9, cover * mask * strands)


def skin_colour(grid: Grid, lines: np.ndarray, shape: SimpleNamespace, identity: SimpleNamespace) -> np.ndarray:
    """Skin (3,H,W) with flushed cheeks and nose, darker sockets, and shadow in the folds."""
    u, v, m, skin = grid.u, grid.v, grid.m, identity.skin
    albedo = np.empty((3, *u.shape), np.float32)
    albedo[:] = skin[:, None, None]
    flush = bump(m, v, 0.42, 0.22, 0.2, 0.16) + 0.5 * bump(u, v, 0, 0.25, 0.12, 0.1)
    paint(albedo, skin * np.array([1.0, 0.75, 0.72], np.float32), identity.blush * flush)
    paint(albedo, skin * 0.72, 0.35 * bump(m, v, shape.eye_spacing - 0.04, shape.eye_height - 0.02, 0.2, 0.1))
    paint(albedo, skin * 0.42, 0.75 * lines)
    return albedo


# ── what surrounds the face, the same for every expression ────────────────────────────────────────────────────────────


def paint_behind(grid: Grid, identity: SimpleNamespace, view: SimpleNamespace) -> np.ndarray:
    """Backdrop, hair behind the head, neck, clothes and ears (3,H,W)."""
    x, y, pixel, width = grid.x, grid.y, grid.pixel, identity.shape["face_width"]
    fade = 0.9 + 0.18 * np.clip(0.4 * view.light[0] * x - 0.35 * y, -1, 1)
    image = view.backdrop[:, None, None] * fade
    if identity.hair_style == "long":
        reach = width + 0.11 + 0.05 * np.clip(y, 0, 1) + 0.02 * np.sin(5 * y + identity.hair_phase)
        paint(image, identity.hair * 0.62, soft(reach - np.abs(x), 2 * pixel) * soft(y + 0.3, 0.1))
    side = np.clip(1 + 0.25 * view.light[0] * x, 0.6, 1.3)
    neck = soft(0.62 * width - np.abs(x) + 0.25 * np.clip(y - 1.1, 0, None), 2 * pixel) * soft(y - 0.5, pixel)
    paint(image, identity.skin[:, None, None] * (0.55 * side), neck)
    paint(image, view.clothes, soft(y - 1.28 - 0.10 * np.exp(-4 * x * x) + 0.08 * x * x, 2 * pixel))
    ear_x = np.abs(x + 0.05 * view.yaw) - width - 0.01
    ear = 1 - np.sqrt((ear_x / 0.085) ** 2 + ((y - 0.02) / 0.20) ** 2)
    paint(image, identity.skin[:, None, None] * (0.78 * side), soft(ear * 0.085, pixel))
    paint(image, identity.skin * 0.5, 0.5 * bump(ear_x, y, 0.015, 0.0, 0.035, 0.12))
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


def draw_front(grid: Grid, identity: SimpleNamespace, view: SimpleNamespace) -> np.ndarray:
    """Hair over the forehead and glasses (4,H,W): colours times cover, and cover, of what hides the face."""
    x, y = grid.x, grid.y
    front = np.zeros((4, *x.shape), np.float32)
    if identity.hair_style != "bald":
        angle = np.arctan2(x, 0.4 - y)
        strands = 1 + 0.09 * np.sin(55 * angle + 3 * np.sin(7 * y) + identity.hair_phase) + 0.06 * np.sin(121 * angle)
        sheen = 0.72 + 0.35 * bump(x, y, 0.4 * view.light[0], -0.95, 0.45, 0.16) + 0.15 * view.light[0] * x
        shaded = identity.hair[:, None, None] * (strands * sheen)
        paint(front, np.concatenate([shaded, np.ones_like(shaded[:1])]), hair_mask(grid, identity))
    if identity.glasses:
        paint_glasses(front, grid, identity)
    return front


def paint_glasses(front: np.ndarray, grid: Grid, identity: SimpleNamespace) -> None:
    """Rims, bridge and temples, and lenses with a faint reflection."""
    pixel, below = grid.pixel, grid.v - identity.shape["eye_height"]
    dx, dy = (grid.m - identity.shape["eye_spacing"]) * (1 / 0.235), (below - 0.03) * (1 / 0.185)
    r = np.sqrt(np.sqrt(dx**4 + dy**4))
    rim = soft(0.020 - 0.2 * np.abs(r - 1), 1.3 * pixel)
    bridge = soft(0.014 - np.abs(below + 0.02), pixel) * soft(0.12 - grid.m, pixel)
    temple = soft(0.014 - np.abs(below + 0.05), pixel) * soft(grid.m - 0.56, pixel)
    temple *= soft(0.78 - np.abs(grid.x), pixel)
    reflection = 0.06 + 0.10 * soft(0.04 - np.abs(dx + 0.6 * dy), 0.2)
    paint(front, (1, 1, 1, 1), reflection * soft(1 - r, 0.05))
    paint(front, (*identity.frame, 1), np.maximum(np.maximum(rim, bridge), temple))


# ── one picture ───────────────────────────────────────────────────────────────────────────────────────────────────────


def set_scene(canvas: int, identity: SimpleNamespace, view: SimpleNamespace) -> SimpleNamespace:
    """All that the expressive and the neutral picture share: coordinates and what lies behind and before the face."""
    grid = make_grid(canvas, view)
    windows = {
        paint_eyes: grid.window(-0.32, 0.08, 0.62),
        paint_brows: grid.window(-0.65, -0.12, 0.60),
        paint_nose: grid.window(0.10, 0.50, 0.40),
        paint_mouth: grid.window(0.30, 1.10, 0.55),
        paint_beard: grid.window(0.20, 1.30),
    }
    behind, front = paint_behind(grid, identity, view), draw_front(grid, identity, view)
    return SimpleNamespace(grid=grid, windows=windows, behind=behind, front=front, identity=identity, view=view)


def render(scene: SimpleNamespace, shape: SimpleNamespace) -> np.ndarray:
    """One picture of one shape (3,H,W), float, before blur and noise."""
    grid, skin, view = scene.grid, scene.identity.skin, scene.view
    inside = head_distance(grid, shape)
    image = scene.behind.copy()
    neck = soft(0.6 * shape.face_width - np.abs(grid.x), 0.1) * soft(grid.y - 0.6, 0.3)
    paint(image, skin * 0.30, 0.6 * neck * soft(inside + 0.10, 0.22))  # the shadow of the chin
    lines = crease_lines(grid, shape)
    light, highlight = light_skin(relief(grid, inside, shape) - 0.02 * lines, grid, view)
    albedo = skin_colour(grid, lines, shape, scene.identity)
    for painter in (paint_beard, paint_eyes, paint_brows, paint_nose, paint_mouth):
        cut, part = scene.windows[painter]
        painter(albedo[cut], part, shape, scene.identity, view)
    albedo *= light
    albedo += skin[:, None, None] * (0.10 * highlight)
    paint(image, albedo, soft(inside, 1.5 * grid.pixel))
    image = image * (1 - scene.front[3]) + scene.front[:3]
    return image * (view.gain * np.array([1 + view.warmth, 1, 1 - view.warmth], np.float32))[:, None, None]


def develop(image: np.ndarray, size: int, blur: float) -> np.ndarray:
    """The canvas averaged down to (3,size,size) and blurred, 0..255."""
    step = image.shape[1] // size
    small = image.reshape(3, size, step, size, step).mean((2, 4))
    return gaussian_filter(np.clip(small, 0, 1), (0, blur * size, blur * size)) * 255


def region_map(grid: Grid, step: int) -> np.ndarray:
    """The region 1..5 (H,W) whose landmark is nearest to each pixel, measured in the region's radii."""
    m, v = (coordinate[step // 2 :: step, step // 2 :: step] for coordinate in (grid.m, grid.v))
    far = [((m - x) / rx) ** 2 + ((v - y) / ry) ** 2 for x, y, rx, ry in (LANDMARKS[name] for name in REGIONS)]
    return (1 + np.argmin(far, axis=0)).astype(np.uint8)
