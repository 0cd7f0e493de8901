"""The annotated picture of a prediction: the photo with its faces outlined and named, and a card for each face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ferlib.faces.crops import DetectedFace, crop_outline, warp_map
from ferlib.faces.predictions import FacePrediction
from ferlib.figures.cards import (
    PAPER,
    blend_map,
    card_size,
    draw_card,
    draw_ramp,
    limits_of,
    name_face,
    place_cards,
    smooth_signs,
)
from ferlib.figures.lettering import contrasting, fit_typeface, letter, wrap
from ferlib.figures.palette import COLORS, QUIET
from ferlib.figures.placement import Rectangle, overlaps, place_label
from ferlib.inference.confidence import LEVEL
from ferlib.runtime.files import atomic_path
from ferlib.runtime.terminal import printable

if TYPE_CHECKING:
    from ferlib.explanations.specs import Method

SIDES = (480, 1600)  # smallest and largest longest side, in pixels, of the photo in the annotated picture
MOST_CARDS = 24
SETS = f"dark names: the set that holds the label of {100 * LEVEL:.0f} % of the faces of each class"


def save_annotated(
    path: Path,
    picture: np.ndarray,
    faces: Sequence[FacePrediction],
    caption: str,
    method: Method | None = None,
    own_scale: bool = False,
) -> None:
    """Writes the annotated picture as a JPEG; arguments as in `annotate`."""
    sheet = annotate(picture, faces, caption if faces else f"no face found · {caption}", method, own_scale)
    with atomic_path(path) as temporary:
        sheet.save(temporary, quality=90, subsampling=0)


def annotate(
    picture: np.ndarray,
    faces: Sequence[FacePrediction],
    caption: str,
    method: Method | None = None,
    own_scale: bool = False,
) -> Image.Image:
    """The photo uint8 H×W×3, scaled to SIDES, with outlines of the crops, the faces' maps, cards and the caption.

    method: the one that computed the faces' maps. own_scale: the colours of each map reach to its own peak, instead of
    that of all. The cards stand beside the photo where one column holds them, else
    below it.
    """
    photo, factor = fit_sides(picture)
    scaled = [replace(item, face=item.face.moved((factor, factor), (0, 0))) for item in faces]
    unit = max(11, round(math.sqrt(photo.shape[0] * photo.shape[1]) / 50))  # size of the text in pixels
    limits = limits_of(scaled, method, own_scale)
    sheet = Image.fromarray(draw_faces(photo, scaled, method, unit, limits))
    if any(item.is_unsure for item in scaled[:MOST_CARDS]):
        caption = f"{caption} · {SETS}"
    if len(scaled) > MOST_CARDS:
        caption = f"{caption} · the {MOST_CARDS} largest of {len(scaled)} faces have cards"
    return assemble(sheet, scaled[:MOST_CARDS], caption, method, unit, limits)


def fit_sides(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """A copy of the picture whose longest side is within SIDES, and the factor."""
    longest = max(picture.shape[:2])
    factor = min(max(longest, SIDES[0]), SIDES[1]) / longest
    if factor == 1:
        return picture.copy(), 1.0
    height, width = (max(round(side * factor), 1) for side in picture.shape[:2])
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=kind)), factor


def assemble(
    photo: Image.Image,
    faces: Sequence[FacePrediction],
    caption: str,
    method: Method | None,
    unit: int,
    limits: Sequence[float],
) -> Image.Image:
    """The photo, its faces' cards, the ramp of the maps' colours and the caption on one sheet."""
    cards_unit, places = place_cards(photo.size, len(faces), unit)
    wide, tall = card_size(cards_unit)
    width = max([photo.width, wide, *(x + wide for x, _ in places)])
    height = max([photo.height, *(y + tall for _, y in places)])
    words, lettering = letter(printable(caption), unit)
    text = wrap(words, (width - unit) / 72, unit)  # a "point" is a pixel here
    ramp = draw_ramp(method, limits[0] if len(set(limits)) == 1 else None, unit) if method and faces else None
    below = height + (ramp.height + unit // 2 if ramp else 0)
    sheet = Image.new("RGB", (width, below + round(1.5 * unit * (text.count("\n") + 1)) + unit), PAPER)
    sheet.paste(photo, (0, 0))
    if ramp:
        sheet.paste(ramp, (unit // 2, height + unit // 2))
    for number, (item, place) in enumerate(zip(faces, places, strict=True), start=1):
        card = draw_card(item, name_face(item, number, len(faces)), method, cards_unit, limits[number - 1])
        sheet.paste(card, place)
    pen = ImageDraw.Draw(sheet)
    pen.text((unit // 2, below + unit // 2), text, fill=QUIET, font=lettering, spacing=unit // 3)
    return sheet


# ── on the photo ─────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_faces(
    photo: np.ndarray, faces: Sequence[FacePrediction], method: Method | None, unit: int, limits: Sequence[float]
) -> np.ndarray:
    """The photo uint8 H×W×3 with maps, outlines and labels; its array is used for the maps."""
    for item, limit in reversed([*zip(faces, limits, strict=True)]):  # the largest come last
        if method:
            draw_map(photo, item, method, limit)
    picture = Image.fromarray(photo)
    pen = ImageDraw.Draw(picture)
    for item in faces:
        draw_outline(pen, crop_outline(item.face), COLORS[item.code], max(2, unit // 5))
    labels: list[Rectangle] = []
    for number, item in enumerate(faces, start=1):
        others = [bounds(other.face) for other in faces if other is not item]
        text = name_face(item, number, len(faces))
        labels.append(draw_label(pen, item, text, picture.size, unit, labels, others))
    return np.array(picture)


def draw_map(photo: np.ndarray, item: FacePrediction, method: Method, limit: float) -> None:
    """The face of an H×W×3 photo in grey under the colours of its map, in place; only the crop's square changes."""
    if item.map is None:
        return
    height, width = photo.shape[:2]
    corners = crop_outline(item.face)
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
    if left >= right or top >= bottom:
        return
    face, size = item.face.moved((1, 1), (-left, -top)), (bottom - top, right - left)
    smooth = smooth_signs(item.map, method)
    inside, values = warp_map(np.ones_like(item.map), face, *size)[..., None], warp_map(smooth, face, *size)
    part = photo[top:bottom, left:right]
    coloured = 255 * blend_map(part / 255, values, limit, method)
    photo[top:bottom, left:right] = np.clip(part + (coloured - part) * inside, 0, 255).astype(np.uint8)


def draw_outline(pen: ImageDraw.ImageDraw, corners: np.ndarray, color: str, width: int) -> None:
    """A closed line through corners N×2, with a dark edge for contrast on any ground."""
    points = [(float(x), float(y)) for x, y in [*corners, *corners[:2]]]
    pen.line(points, fill="#00000090", width=width + 2, joint="curve")
    pen.line(points, fill=color, width=width, joint="curve")


def draw_label(
    pen: ImageDraw.ImageDraw,
    item: FacePrediction,
    text: str,
    size: tuple[int, int],
    unit: int,
    labels: Sequence[Rectangle],
    faces: Sequence[Rectangle],
) -> Rectangle:
    """Labels a face in a picture of width and height `size`, clear of other labels and faces; returns the place.

    Beside other faces, a label that would cover one of them, or that is more than twice as wide as its own face, is
    shortened to the face's number; the card has the rest.
    """
    own = bounds(item.face)
    for words in (text, text.split()[0]) if faces else (text,):
        lettering = fit_typeface(words, round(1.15 * unit), size[0])
        label = lettering.getlength(words) + lettering.size, 1.5 * lettering.size
        place = place_label(own, label, size, labels, faces)
        covers = any(overlaps(place, other) for other in (*labels, *faces))
        if not covers and label[0] <= 2 * (own[2] - own[0]):
            break
    pen.rounded_rectangle(place, radius=label[1] / 5, fill=COLORS[item.code])
    middle = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
    pen.text(middle, words, fill=contrasting(COLORS[item.code]), font=lettering, anchor="mm")
    return place


def bounds(face: DetectedFace) -> Rectangle:
    """The smallest upright rectangle around a face's crop."""
    corners = crop_outline(face)
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return left, top, right, bottom
