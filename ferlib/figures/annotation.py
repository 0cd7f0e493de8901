"""The picture of a prediction: the photo with its faces outlined and named, and a card with seven bars for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from config import EMOTIONS
from ferlib.explanations.maps import color_limit, sum_blocks
from ferlib.faces.crops import DetectedFace, crop_outline, warp_map
from ferlib.figures.curves import COLORS
from ferlib.figures.heatmaps import stretch, tint
from ferlib.figures.parts import overlay

SIDES = (480, 1600)  # of the longest side of the photo as it is drawn
MOST_CARDS = 24
INK, QUIET, PAPER, TRACK = "#1d2129", "#666666", "#ffffff", "#e9e9ec"
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Annotation:
    """A face to draw."""

    face: DetectedFace
    probabilities: np.ndarray  # 7
    crop: np.ndarray  # uint8 S×S×3: what the model was given
    map: np.ndarray | None = None  # float32 S×S
    signed: bool = False
    summed: bool = False  # whether the map's values add up to something

    @property
    def label(self) -> int:
        return int(self.probabilities.argmax())

    @property
    def text(self) -> str:
        return f"{EMOTIONS[self.label]} {percent(self.probabilities[self.label])}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def annotate(picture: np.ndarray, faces: Sequence[Annotation], caption: str) -> Image.Image:
    """The photo uint8 H×W×3, scaled to SIDES, its faces outlined as the model sees them, their cards, the caption.

    The cards stand beside the photo where one column will do, else below it.
    """
    photo, factor = fit(picture)
    shown = [replace(item, face=item.face.moved((factor, factor), (0, 0))) for item in faces]
    unit = max(11, round(math.sqrt(photo.shape[0] * photo.shape[1]) / 50))  # the size of the text in pixels
    photo = Image.fromarray(draw_faces(photo, shown, unit))
    if len(shown) > MOST_CARDS:
        caption = f"{caption} · the {MOST_CARDS} largest of {len(shown)} faces have cards"
    return assemble(photo, shown[:MOST_CARDS], caption, unit)


def fit(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture at a size at which labels can be read, and the factor."""
    longest = max(picture.shape[:2])
    factor = min(max(longest, SIDES[0]), SIDES[1]) / longest
    if factor == 1:
        return picture.copy(), 1.0
    size = tuple(max(round(side * factor), 1) for side in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), factor


# ── on the photo ─────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_faces(photo: np.ndarray, faces: Sequence[Annotation], unit: int) -> np.ndarray:
    """Maps, outlines and labels, on uint8 H×W×3."""
    for item in reversed(faces):  # the largest come last
        if item.map is not None:
            lay_over(photo, item)
    picture = Image.fromarray(photo)
    pen = ImageDraw.Draw(picture)
    for item in faces:
        outline(pen, crop_outline(item.face), COLORS[item.label], max(2, unit // 5))
    taken: list[Rectangle] = []
    for number, item in enumerate(faces, start=1):
        others = [bounds(other.face) for other in faces if other is not item]
        text = f"{number}  {item.text}" if len(faces) > 1 else item.text
        taken.append(draw_label(pen, item, text, picture.size, unit, (taken, others)))
    return np.array(picture)


def lay_over(photo: np.ndarray, item: Annotation) -> None:
    """The face of an H×W×3 photo in grey under the colours of its map, in place; only the crop's square changes."""
    height, width = photo.shape[:2]
    corners = crop_outline(item.face)
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
    if left >= right or top >= bottom:
        return
    face = item.face.moved((1, 1), (-left, -top))
    inside = warp_map(np.ones_like(item.map), face, bottom - top, right - left)[..., None]
    values = warp_map(readable(item), face, bottom - top, right - left)
    part = photo[top:bottom, left:right]
    coloured = 255 * paint(part / 255, values, item)
    photo[top:bottom, left:right] = np.clip(part + (coloured - part) * inside, 0, 255).astype(np.uint8)


def readable(item: Annotation) -> np.ndarray:
    """The map, or the means of small blocks: signs that change from pixel to pixel cannot be read."""
    if not item.summed:
        return item.map
    sums, block = sum_blocks(item.map)
    return np.kron(sums / block**2, np.ones((block, block)))[: len(item.map), : len(item.map)].astype(np.float32)


def paint(face: np.ndarray, values: np.ndarray, item: Annotation) -> np.ndarray:
    """A face H×W×3 in 0..1 in the colours of H×W values, as in the figures of the explain_* scripts."""
    limit = color_limit(readable(item))
    return overlay(stretch(face), values, limit) if item.signed else tint(stretch(face), values, limit)


def outline(pen: ImageDraw.ImageDraw, corners: np.ndarray, color: str, width: int) -> None:
    """A closed line with a dark edge, so that it shows on any ground."""
    points = [tuple(corner) for corner in [*corners.tolist(), *corners[:2].tolist()]]
    pen.line(points, fill="#00000090", width=width + 2, joint="curve")
    pen.line(points, fill=color, width=width, joint="curve")


def draw_label(
    pen: ImageDraw.ImageDraw,
    item: Annotation,
    text: str,
    size: tuple[int, int],
    unit: int,
    others: tuple[Sequence[Rectangle], Sequence[Rectangle]],
) -> Rectangle:
    """Names the face within the picture, if possible where no other label nor face is; returns the place taken.

    A face among others whose label would hide one of them, or is twice as wide as the face, gets its number alone, as
    the cards say the rest.
    """
    face = bounds(item.face)
    for words in (text, text.split()[0]) if others[1] else (text,):
        lettering = font_that_fits(words, round(1.15 * unit), size[0])
        label = lettering.getlength(words) + lettering.size, 1.5 * lettering.size
        place = free_place(face, label, size, others)
        hides = any(overlap(place, other) for kind in others for other in kind)
        if not hides and label[0] <= 2 * (face[2] - face[0]):
            break
    pen.rounded_rectangle(place, radius=label[1] / 5, fill=COLORS[item.label])
    middle = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
    pen.text(middle, words, fill=contrast(COLORS[item.label]), font=lettering, anchor="mm")
    return place


def bounds(face: DetectedFace) -> Rectangle:
    corners = crop_outline(face)
    return (*corners.min(0).tolist(), *corners.max(0).tolist())


def free_place(
    face: Rectangle,
    label: tuple[float, float],
    size: tuple[int, int],
    others: tuple[Sequence[Rectangle], Sequence[Rectangle]],
) -> Rectangle:
    """Above the face, below, beside or within it: where it covers least of other labels, then of faces.

    Moved into the picture where it would stick out; a place that needs no moving comes first.
    """
    left, top, right, bottom = face
    width, height = label
    wanted = [
        (left, top - height - 2), (left, bottom + 2), (right + 2, top), (left - width - 2, top),
        (left, top + 2), (left, bottom - height - 2),
    ]  # fmt: skip
    places = [put(*corner, label, size) for corner in wanted]

    def faults(number: int) -> tuple[bool, bool, bool]:
        labels, faces = (any(overlap(places[number], other) for other in kind) for kind in others)
        return labels, places[number][:2] != wanted[number], faces

    return places[min(range(len(places)), key=faults)]


def put(left: float, top: float, label: tuple[float, float], size: tuple[int, int]) -> Rectangle:
    """A rectangle moved into the picture; one that is too large begins at its edge."""
    x = max(0.0, min(left, size[0] - label[0] - 1))
    y = max(0.0, min(top, size[1] - label[1] - 1))
    return x, y, x + label[0], y + label[1]


def overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


# ── cards ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def card_size(unit: int) -> tuple[int, int]:
    return 22 * unit, 14 * unit


def draw_card(item: Annotation, title: str, unit: int) -> Image.Image:
    """What the model was given, the map over it, and seven bars."""
    line = round(1.5 * unit)
    width, height = card_size(unit)
    card = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(card)
    pen.text((unit // 2, line // 2), title, fill=INK, font=font(unit, bold=True), anchor="lm")
    thumbs = [item.crop] if item.map is None else [item.crop, painted_crop(item)]
    side = round(7 * line / 2) - unit // 4 if item.map is not None else 5 * unit
    for row, thumb in enumerate(thumbs):
        picture = Image.fromarray(thumb).resize((side, side), Image.Resampling.BICUBIC)
        card.paste(picture, (unit // 2, round(1.25 * line) + row * (side + unit // 4)))
    left = unit + side + unit // 2
    for row, share in enumerate(item.probabilities):
        draw_bar(pen, row, float(share), left, round((1.75 + row) * line), width - unit // 2, unit)
    return card


def painted_crop(item: Annotation) -> np.ndarray:
    """The map over the crop, at a scale at which the colours are smooth."""
    side = 4 * len(item.crop)
    face = cv2.resize(item.crop, (side, side), interpolation=cv2.INTER_CUBIC) / 255
    values = cv2.resize(readable(item), (side, side), interpolation=cv2.INTER_LINEAR)
    return (255 * np.clip(paint(face, values, item), 0, 1)).astype(np.uint8)


def draw_bar(pen: ImageDraw.ImageDraw, row: int, share: float, left: int, middle: int, right: int, unit: int) -> None:
    """The name of a class, its probability as a bar and in words."""
    start, end = left + round(5.3 * unit), right - round(3.3 * unit)
    pen.text((left, middle), EMOTIONS[row], fill=INK, font=font(unit), anchor="lm")
    half = round(0.4 * unit)
    pen.rectangle((start, middle - half, end, middle + half), fill=TRACK)
    if round(share * (end - start)) > 0:
        pen.rectangle((start, middle - half, start + share * (end - start), middle + half), fill=COLORS[row])
    pen.text((right, middle), percent(share), fill=INK, font=font(unit), anchor="rm")


def assemble(photo: Image.Image, faces: Sequence[Annotation], caption: str, unit: int) -> Image.Image:
    """The photo, its faces' cards and the caption on one sheet."""
    cards_unit, places = place_cards(photo.size, len(faces), unit)
    wide, tall = card_size(cards_unit)
    width = max([photo.width, wide, *(x + wide for x, _ in places)])
    height = max([photo.height, *(y + tall for _, y in places)])
    lines = wrap(caption, width - unit, unit)
    sheet = Image.new("RGB", (width, height + round(1.5 * unit * len(lines)) + unit), PAPER)
    sheet.paste(photo, (0, 0))
    for number, (item, place) in enumerate(zip(faces, places, strict=True), start=1):
        title = f"{number}  {item.text}" if len(faces) > 1 else item.text
        sheet.paste(draw_card(item, title, cards_unit), place)
    text = "\n".join(lines)
    ImageDraw.Draw(sheet).text((unit // 2, height + unit // 2), text, fill=QUIET, font=font(unit), spacing=unit // 3)
    return sheet


def place_cards(photo: tuple[int, int], count: int, unit: int) -> tuple[int, list[tuple[int, int]]]:
    """The size of the cards' text, and their corners: in a column beside the photo, or in rows as wide as it, below."""
    (width, height), (wide, tall) = photo, card_size(unit)
    if count * tall <= max(height, tall) and width <= 2.5 * height:
        unit = max(unit, min(round(1.6 * unit), height // (14 * max(count, 1))))
        return unit, [(width + unit, row * card_size(unit)[1]) for row in range(count)]
    columns = max(1, round(1.2 * math.sqrt(count)), width // (wide + unit))
    unit = max(11, min(unit, width // (columns * 23)))
    wide, tall = card_size(unit)
    columns = max(1, (width + unit) // (wide + unit))
    step = (width - wide) // max(columns - 1, 1) if count >= columns else wide + unit
    return unit, [(number % columns * step, height + unit + number // columns * tall) for number in range(count)]


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    from matplotlib import font_manager  # here, as looking for fonts takes a while

    properties = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(properties), size)


def font_that_fits(text: str, size: int, width: int) -> ImageFont.FreeTypeFont:
    """Bold, of `size` or as much smaller as a label of so many pixels needs, but readable."""
    while size > 8 and font(size, bold=True).getlength(text) + size > width:
        size -= 1
    return font(size, bold=True)


def contrast(color: str) -> str:
    """Black or white, whichever can be read on a colour #rrggbb."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def wrap(text: str, width: int, unit: int) -> list[str]:
    """Lines of words that are not wider than `width` pixels, where single words are not."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font(unit).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
