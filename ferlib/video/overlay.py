"""Draws what is known of each face on a frame: the map, the box, the label, seven bars; at any size of frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from config import EMOTIONS
from ferlib.figures.curves import COLORS
from ferlib.video.tracking import Sighting

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside

RGB = [tuple(int(color[start : start + 2], 16) for start in (1, 3, 5)) for color in COLORS]
RGB[EMOTIONS.index("Neutral")] = (190, 190, 190)  # the plots' dark grey would not show on a dark ground
WHITE, PALE, GROUND = (255, 255, 255), (205, 205, 205), (18, 18, 22)
GLOW = (np.array(matplotlib.colormaps["viridis"](np.arange(256)))[:, :3] * 255).astype(np.float32)  # unlike any skin
OPACITY = 0.75  # of the map where it is 1; where it is 0 the face shows as it is


def draw(picture: np.ndarray, sightings: Sequence[Sighting], rate: float) -> np.ndarray:
    """Draws on uint8 H×W×3 RGB in place: every face, and frames per second in the corner."""
    unit = max(0.6, min(picture.shape[0] / 480, picture.shape[1] / 640))  # the frame's size against 640×480
    boxes = [outer_box(sighting, picture) for sighting in sightings]
    for sighting, box in zip(sightings, boxes, strict=True):
        if sighting.map is not None:
            draw_map(picture, sighting, box)
    taken = [*boxes, draw_rate(picture, rate, any(sighting.map is not None for sighting in sightings), unit)]
    for sighting, box in zip(sightings, boxes, strict=True):
        draw_box(picture, box, RGB[sighting.label], unit)
        taken.append(draw_label(picture, sighting, box, unit))
    for sighting, box in zip(sightings, boxes, strict=True):
        if place := free_place(picture, box, panel_size(unit), taken, round(6 * unit)):
            draw_bars(picture, sighting, place, unit)
            taken.append(place)
    return picture


# ── the face ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def outer_box(sighting: Sighting, picture: np.ndarray) -> Rectangle:
    """The sighting's box in whole pixels, cut at the picture's edges."""
    height, width = picture.shape[:2]
    x, y, w, h = sighting.box
    left, top = min(max(0, round(x)), width - 1), min(max(0, round(y)), height - 1)
    return left, top, max(left + 1, min(width, round(x + w))), max(top + 1, min(height, round(y + h)))


def draw_map(picture: np.ndarray, sighting: Sighting, box: Rectangle) -> None:
    """Blends the map, taken from the crop back to its place in the frame, into the box: the higher, the more."""
    left, top, right, bottom = box
    part = picture[top:bottom, left:right]
    to_box = sighting.to_frame - np.array([[0, 0, left], [0, 0, top]])
    values = cv2.warpAffine(sighting.map, to_box, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    colors = GLOW[(255 * np.clip(values, 0, 1)).astype(np.uint8)]
    part[:] = part + (OPACITY * values.clip(0, 1))[..., None] * (colors - part)


def draw_box(picture: np.ndarray, box: Rectangle, color: tuple, unit: float) -> None:
    """A frame in the label's colour, with a dark line around it that stands out from any background."""
    left, top, right, bottom = box
    line = max(1, round(2 * unit))
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), GROUND, line + 2 * max(1, round(unit)), cv2.LINE_AA)
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), color, line, cv2.LINE_AA)


def draw_label(picture: np.ndarray, sighting: Sighting, box: Rectangle, unit: float) -> Rectangle:
    """Class and confidence above the box, or within it at the picture's upper edge; gives the place taken."""
    text = text_mask(f"{EMOTIONS[sighting.label]} {sighting.probabilities[sighting.label]:.0%}", round(16 * unit), True)
    number = text_mask(f"#{sighting.track}", round(12 * unit))
    gap, stripe = round(5 * unit), max(3, round(5 * unit))
    width = stripe + gap + text.shape[1] + gap + number.shape[1] + gap
    height = text.shape[0] + gap
    left = max(0, min(box[0] - round(unit), picture.shape[1] - width))
    top = box[1] - height - round(2 * unit)
    top = box[1] + round(2 * unit) if top < 0 else top
    place = (left, top, left + width, top + height)
    shade(picture, place, GROUND, 0.78)
    shade(picture, (left, top, left + stripe, top + height), RGB[sighting.label], 1)
    put(picture, text, left + stripe + gap, top + gap // 2, WHITE)
    put(picture, number, left + width - gap - number.shape[1], top + height - gap // 2 - number.shape[0], PALE)
    return place


# ── bars ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def panel_size(unit: float) -> tuple[int, int]:
    """Width and height of seven bars with their names."""
    return round(148 * unit), round(7 * 15 * unit + 8 * unit)


def draw_bars(picture: np.ndarray, sighting: Sighting, place: Rectangle, unit: float) -> None:
    """Name, bar and percent of each class."""
    left, top, right, _ = place
    shade(picture, place, GROUND, 0.66)
    name, row, edge = round(58 * unit), 15 * unit, round(4 * unit)
    begin, length = left + edge + name, right - left - name - 2 * edge - round(33 * unit)
    for code, emotion in enumerate(EMOTIONS):
        y = top + edge + round(code * row)
        color = WHITE if code == sighting.label else PALE
        put(picture, text_mask(emotion, round(11 * unit), code == sighting.label), left + edge, y, color)
        share = float(sighting.probabilities[code])
        bar = (begin, y + round(2 * unit), begin + length, y + round(11 * unit))
        shade(picture, bar, (62, 62, 68), 0.9)
        shade(picture, (*bar[:2], begin + round(share * length), bar[3]), RGB[code], 1)
        percent = text_mask(f"{share:.0%}", round(11 * unit))
        put(picture, percent, right - edge - percent.shape[1], y, color)


def free_place(
    picture: np.ndarray, box: Rectangle, size: tuple[int, int], taken: Sequence[Rectangle], gap: int
) -> Rectangle | None:
    """Room for a panel beside or below the box that is in the picture and covers nothing; None where there is none."""
    width, height = size
    left, top, right, bottom = box
    for x, y in (
        (right + gap, top),
        (left - gap - width, top),
        (right + gap, bottom - height),
        (left - gap - width, bottom - height),
        (left, bottom + gap),
        (right - width, bottom + gap),
    ):
        place = (x, y, x + width, y + height)
        if within(place, picture) and not any(overlaps(place, other) for other in taken):
            return place
    return None


def within(place: Rectangle, picture: np.ndarray) -> bool:
    return min(place) >= 0 and place[2] <= picture.shape[1] and place[3] <= picture.shape[0]


def overlaps(first: Rectangle, second: Rectangle) -> bool:
    across = first[0] < second[2] and second[0] < first[2]
    return across and first[1] < second[3] and second[1] < first[3]


# ── the corner ───────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_rate(picture: np.ndarray, rate: float, mapped: bool, unit: float) -> Rectangle:
    """Frames per second in the upper left corner and, with maps, what their colours mean; gives the place taken."""
    text = text_mask(f"{rate:.0f} frames/s" if rate else "– frames/s", round(12 * unit))
    pieces = [text, text_mask("Grad-CAM", round(12 * unit))] if mapped else [text]
    edge, ramp = round(5 * unit), round(44 * unit) if mapped else 0
    width = sum(piece.shape[1] for piece in pieces) + edge * (len(pieces) + 1) + (ramp + 3 * edge if mapped else 0)
    place = (0, 0, width, text.shape[0] + edge)
    shade(picture, place, GROUND, 0.66)
    put(picture, text, edge, edge // 2, WHITE)
    if mapped:
        x = 4 * edge + text.shape[1]
        put(picture, pieces[1], x, edge // 2, PALE)
        x += pieces[1].shape[1] + edge
        picture[edge : text.shape[0], x : x + ramp] = GLOW[np.linspace(0, 255, ramp).astype(int)]
    return place


# ── paint ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def shade(picture: np.ndarray, place: Rectangle, color: tuple, opacity: float) -> None:
    """Lays a colour over a rectangle, which may reach beyond the picture."""
    left, top, right, bottom = (max(0, side) for side in place)
    part = picture[top:bottom, left:right]
    if part.size:
        part[:] = part * (1 - opacity) + np.multiply(color, opacity)


def put(picture: np.ndarray, mask: np.ndarray, left: int, top: int, color: tuple) -> None:
    """Writes a text's mask at a place, cut at the picture's edges."""
    left, top = max(0, left), max(0, top)
    part = picture[top : top + mask.shape[0], left : left + mask.shape[1]]
    cover = mask[: part.shape[0], : part.shape[1], None]
    part[:] = part + cover * (np.array(color, np.float32) - part)


@lru_cache(maxsize=1024)
def text_mask(text: str, size: int, bold: bool = False) -> np.ndarray:
    """How much of each pixel the text covers, float32 h×w in 0..1; the height is that of any text of this size."""
    font = typeface(max(size, 8), bold)
    ascent, descent = font.getmetrics()
    image = Image.new("L", (max(1, round(font.getlength(text)) + 1), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


@lru_cache
def typeface(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: OpenCV's own letters are strokes and hard to read."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
