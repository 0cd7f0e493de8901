"""Drawing on frames: each face's map, box, label, strongest regions and seven bars, scaled with the frame's size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw

from config import EMOTIONS
from ferlib.figures.lettering import SMALLEST, typeface
from ferlib.figures.palette import COLORS
from ferlib.figures.placement import Rectangle, overlaps, place_label, place_panel
from ferlib.video.regions import RegionValues
from ferlib.video.tracking import TrackedFace

Pixels = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels; the last two are outside
Color = tuple[int, ...]  # red, green, blue in 0..255

CLASS_COLORS: list[Color] = [tuple(int(color[start : start + 2], 16) for start in (1, 3, 5)) for color in COLORS]
CLASS_COLORS[EMOTIONS.index("Neutral")] = (190, 190, 190)  # the figures' dark grey has no contrast on a dark ground
WHITE, PALE, GROUND = (255, 255, 255), (205, 205, 205), (18, 18, 22)
OPACITY = 0.75  # of the map where it is 1; where it is 0 the face is unchanged
MIDDLE = 128  # grey under the colours of the ramp


@cache
def map_colors() -> np.ndarray:
    """matplotlib's viridis, which has no skin colours: float32 256×3 in 0..255."""
    import matplotlib  # takes a second, which frames without maps need not spend

    return (255 * matplotlib.colormaps["viridis"](np.arange(256))[:, :3]).astype(np.float32)


def draw_faces(picture: np.ndarray, faces: Sequence[TrackedFace], rate: float) -> np.ndarray:
    """Draws on uint8 H×W×3 RGB in place: all faces, and the rate in frames per second in the corner."""
    unit = max(0.6, min(picture.shape[0] / 480, picture.shape[1] / 640))  # the frame's size relative to 640×480
    boxes = [visible_box(face, picture) for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        if face.map is not None:
            draw_map(picture, face.map, face.to_frame, box)
    mapped = any(face.map is not None for face in faces)
    labels = [draw_rate(picture, rate, mapped, unit)]
    for face, box in zip(faces, boxes, strict=True):
        draw_box(picture, box, CLASS_COLORS[face.code], unit)
        labels.append(draw_label(picture, face, box, labels[0], unit))
    for face, box, label in zip(faces, boxes, labels[1:], strict=True):
        if face.regions:
            both = (label[0], min(label[1], box[1]), max(label[2], box[2]), box[3])
            labels += draw_regions(picture, face.regions, both, labels, boxes, unit)
    occupied: list[Rectangle] = [*boxes, *labels]
    (width, height), size = panel_size(unit), (picture.shape[1], picture.shape[0])
    for face, box in zip(faces, boxes, strict=True):
        if corner := place_panel(box, (width, height), size, occupied, round(6 * unit)):
            panel = (*corner, corner[0] + width, corner[1] + height)
            draw_bars(picture, face, panel, unit)
            occupied.append(panel)
    return picture


# ── the face ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def visible_box(face: TrackedFace, picture: np.ndarray) -> Pixels:
    """The face's box in whole pixels, cut off at the picture's edges."""
    height, width = picture.shape[:2]
    x, y, w, h = face.box
    left, top = min(max(0, round(x)), width - 1), min(max(0, round(y)), height - 1)
    return left, top, max(left + 1, min(width, round(x + w))), max(top + 1, min(height, round(y + h)))


def draw_map(picture: np.ndarray, values: np.ndarray, to_frame: np.ndarray, box: Pixels) -> None:
    """Blends a crop's map S×S in 0..1, transformed to the frame, into the box; its opacity rises with the values."""
    left, top, right, bottom = box
    part = picture[top:bottom, left:right]
    to_box = to_frame - np.array([[0, 0, left], [0, 0, top]])
    warped = np.clip(cv2.warpAffine(values, to_box, (right - left, bottom - top), flags=cv2.INTER_LINEAR), 0, 1)
    part[:] = blend(part, warped)


def blend(ground: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A ground H×W×3 under the colours of values H×W in 0..1, whose opacity is in proportion to them: float32."""
    return ground + (OPACITY * values)[..., None] * (map_colors()[(255 * values).astype(np.uint8)] - ground)


def draw_box(picture: np.ndarray, box: Pixels, color: Color, unit: float) -> None:
    """An outline in the class's colour, with a dark edge for contrast on any background."""
    left, top, right, bottom = box
    line = max(1, round(2 * unit))
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), GROUND, line + 2 * max(1, round(unit)), cv2.LINE_AA)
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), color, line, cv2.LINE_AA)


def draw_label(picture: np.ndarray, face: TrackedFace, box: Pixels, corner: Pixels, unit: float) -> Pixels:
    """Class, probability and track above the box, or within it at the picture's upper edge; returns the place.

    corner: what is not covered, the scale of the maps.
    """
    text = text_mask(f"{EMOTIONS[face.code]} {face.probabilities[face.code]:.0%}", round(16 * unit), True)
    number = text_mask(f"#{face.track}", round(12 * unit))
    gap, stripe = round(5 * unit), max(3, round(5 * unit))
    width = stripe + gap + text.shape[1] + gap + number.shape[1] + gap
    height = text.shape[0] + gap
    left = max(0, min(box[0] - round(unit), picture.shape[1] - width))
    top = box[1] - height - round(2 * unit)
    if top < 0 or overlaps((left, top, left + width, top + height), corner):
        top = box[1] + round(2 * unit)
    if overlaps((left, top, left + width, top + height), corner):
        top = corner[3] + round(2 * unit)
    place = (left, top, left + width, top + height)
    fill(picture, place, GROUND, 0.78)
    fill(picture, (left, top, left + stripe, top + height), CLASS_COLORS[face.code], 1)
    draw_text(picture, text, left + stripe + gap, top + gap // 2, WHITE)
    draw_text(picture, number, left + width - gap - number.shape[1], top + height - gap // 2 - number.shape[0], PALE)
    return place


def draw_regions(
    picture: np.ndarray,
    regions: RegionValues,
    box: Pixels,
    labels: Sequence[Pixels],
    boxes: Sequence[Pixels],
    unit: float,
) -> list[Pixels]:
    """The strongest regions of a face above its label or elsewhere beside it, in one line or in two.

    box: the face with its label. labels, boxes: of all faces. Returns the place; nothing is drawn where every place
    overlaps a label.
    """
    size, edge, stripe = (picture.shape[1], picture.shape[0]), round(5 * unit), max(3, round(5 * unit))

    def place(texts: Sequence[np.ndarray]) -> Pixels:
        """The best place of some lines."""
        width, height = stripe + 2 * edge + max(text.shape[1] for text in texts), edge + sum(map(len, texts))
        left = max(0, min(box[0], size[0] - width - 1))
        x, y, *_ = map(round, place_label((left, *box[1:]), (width, height), size, labels, boxes))
        return x, y, x + width, y + height

    def faults(place: Pixels) -> tuple[bool, bool]:
        over_labels, over_faces = (any(overlaps(place, other) for other in kind) for kind in (labels, boxes))
        return over_labels, over_faces

    ways = [", ".join(regions.strongest)], regions.strongest
    choices = [[text_mask(line, round(13 * unit)) for line in lines] for lines in ways]
    texts = min(choices, key=lambda texts: faults(place(texts)))
    left, top, right, bottom = place(texts)
    if faults((left, top, right, bottom))[0]:
        return []
    fill(picture, (left, top, right, bottom), GROUND, 0.78)
    fill(picture, (left, top, left + stripe, bottom), CLASS_COLORS[regions.code], 1)
    for number, text in enumerate(texts):
        draw_text(picture, text, left + stripe + edge, top + edge // 2 + number * len(text), WHITE)
    return [(left, top, right, bottom)]


# ── bars ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def panel_size(unit: float) -> tuple[int, int]:
    """Width and height in pixels of the panel of seven bars."""
    return round(148 * unit), round(7 * 15 * unit + 8 * unit)


def draw_bars(picture: np.ndarray, face: TrackedFace, place: Pixels, unit: float) -> None:
    """Name, bar and percentage of each class."""
    left, top, right, _ = place
    fill(picture, place, GROUND, 0.66)
    name, row, edge = round(58 * unit), 15 * unit, round(4 * unit)
    begin, length = left + edge + name, right - left - name - 2 * edge - round(33 * unit)
    for code, emotion in enumerate(EMOTIONS):
        y = top + edge + round(code * row)
        color = WHITE if code == face.code else PALE
        draw_text(picture, text_mask(emotion, round(11 * unit), code == face.code), left + edge, y, color)
        share = float(face.probabilities[code])
        bar = (begin, y + round(2 * unit), begin + length, y + round(11 * unit))
        fill(picture, bar, (62, 62, 68), 0.9)
        fill(picture, (begin, bar[1], begin + round(share * length), bar[3]), CLASS_COLORS[code], 1)
        percent = text_mask(f"{share:.0%}", round(11 * unit))
        draw_text(picture, percent, right - edge - percent.shape[1], y, color)


# ── the corner ───────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_rate(picture: np.ndarray, rate: float, mapped: bool, unit: float) -> Pixels:
    """Frames per second in the upper left corner and, with maps, their colour scale; returns the place."""
    text = text_mask(f"{rate:.0f} frames/s" if rate else "– frames/s", round(12 * unit))
    pieces = (
        [text, text_mask("HiResCAM 0", round(12 * unit)), text_mask("peak", round(12 * unit))] if mapped else [text]
    )
    edge, ramp = round(5 * unit), round(44 * unit) if mapped else 0
    width = sum(piece.shape[1] for piece in pieces) + edge * (len(pieces) + 1) + (ramp + 3 * edge if mapped else 0)
    place = (0, 0, width, text.shape[0] + edge)
    fill(picture, place, GROUND, 0.66)
    draw_text(picture, text, edge, edge // 2, WHITE)
    if mapped:
        x = 4 * edge + text.shape[1]
        draw_text(picture, pieces[1], x, edge // 2, PALE)
        x += pieces[1].shape[1] + edge
        picture[edge : text.shape[0], x : x + ramp] = blend(
            np.full((1, ramp, 3), MIDDLE), np.linspace(0, 1, ramp)[None]
        )
        draw_text(picture, pieces[2], x + ramp + edge, edge // 2, PALE)
    return place


# ── on pixels ────────────────────────────────────────────────────────────────────────────────────────────────────────


def fill(picture: np.ndarray, place: Pixels, color: Color, opacity: float) -> None:
    """Blends a colour into a rectangle, which may reach beyond the picture, in place."""
    left, top, right, bottom = (max(0, side) for side in place)
    part = picture[top:bottom, left:right]
    if part.size:
        part[:] = part * (1 - opacity) + np.multiply(color, opacity)


def draw_text(picture: np.ndarray, mask: np.ndarray, left: int, top: int, color: Color) -> None:
    """Blends a colour in by a text's mask, cut off at the picture's edges, in place."""
    left, top = max(0, left), max(0, top)
    part = picture[top : top + mask.shape[0], left : left + mask.shape[1]]
    cover = mask[: part.shape[0], : part.shape[1], None]
    part[:] = part + cover * (np.array(color, np.float32) - part)


@lru_cache(maxsize=1024)
def text_mask(text: str, size: int, bold: bool = False) -> np.ndarray:
    """Coverage of each pixel by the text, float32 h×w in 0..1; the height is the same for all texts of a size."""
    font = typeface(max(size, SMALLEST), bold)
    ascent, descent = font.getmetrics()
    image = Image.new("L", (max(1, round(font.getlength(text)) + 1), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    return np.asarray(image, np.float32) / 255
