"""Cards of predicted faces: the crop, the map over it, a bar for each class; map colours of crops and photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from config import EMOTIONS
from ferlib.explanations.maps import color_limit, sum_blocks
from ferlib.faces.predictions import FacePrediction
from ferlib.figures.blending import colour_signs, colour_sizes, overlay, stretch, tint
from ferlib.figures.lettering import typeface
from ferlib.figures.palette import COLORS, INK

if TYPE_CHECKING:
    from ferlib.explanations.specs import Method

PAPER, TRACK = "#ffffff", "#e9e9e9"  # ground of the card; ground of its bars
PALE = "#9a9a9a"  # names of the classes outside of the prediction set


def percent(share: float) -> str:
    """A share as "83 %"."""
    return f"{100 * share:.0f} %"


def name_face(item: FacePrediction, number: int, count: int) -> str:
    """The predicted class and its probability, with the face's number where there are several."""
    text = f"{item.label} {percent(item.confidence)}"
    return f"{number}  {text}" if count > 1 else text


# ── colours of a map ─────────────────────────────────────────────────────────────────────────────────────────────────


def smooth_signs(values: np.ndarray, method: Method) -> np.ndarray:
    """A map S×S; of attributions that add up, whose signs change from pixel to pixel, the means of small blocks."""
    if not method.summed:
        return values
    sums, block = sum_blocks(values)
    return np.kron(sums / block**2, np.ones((block, block)))[: len(values), : len(values)].astype(np.float32)


def limits_of(faces: Sequence[FacePrediction], method: Method | None, own: bool) -> list[float]:
    """The value of full colour of each face's map: one of all faces, or each its own."""
    maps = [item.map for item in faces]
    limits = [
        1.0 if each is None or method is None else color_limit(smooth_signs(each, method), method.quantile)
        for each in maps
    ]
    shared = max((limit for limit, each in zip(limits, maps, strict=True) if each is not None), default=1.0)
    return limits if own else [shared] * len(limits)


def draw_ramp(method: Method, limit: float | None, unit: int) -> Image.Image:
    """The colours of a map, with the values at its ends; limit: None where each face has its own."""
    shares = np.linspace(-1 if method.signed else 0, 1, 12 * unit)[None]
    colours = (colour_signs if method.signed else colour_sizes)(shares, 1.0)
    size = "peak of the face" if limit is None else f"{limit:.2g}"
    low, high = (f"−{size} against", f"+{size} for") if method.signed else ("0", size)
    before, after, font = f"{low} ", f" {high}: {method.unit}{' of a pixel' * method.summed}", typeface(unit)
    width = round(font.getlength(before) + 12 * unit + font.getlength(after))
    ramp = Image.new("RGB", (width, round(1.5 * unit)), PAPER)
    pen, start = ImageDraw.Draw(ramp), round(font.getlength(before))
    strip = Image.fromarray((255 * colours).round().astype(np.uint8)).resize((12 * unit, unit))
    ramp.paste(strip, (start, unit // 4))
    pen.text((0, 3 * unit // 4), before, fill=INK, font=font, anchor="lm")
    pen.text((start + 12 * unit, 3 * unit // 4), after, fill=INK, font=font, anchor="lm")
    return ramp


def blend_map(face: np.ndarray, values: np.ndarray, limit: float, method: Method) -> np.ndarray:
    """A face H×W×3 in 0..1 in the colours of H×W values, as in the figures of the explain_* scripts: H×W×3 in 0..1.

    limit: the value that gets full colour.
    """
    return (overlay if method.signed else tint)(stretch(face), values, limit)


# ── a card ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def card_size(unit: int) -> tuple[int, int]:
    """Width and height in pixels; `unit` is the size of the text."""
    return 22 * unit, 14 * unit


def draw_card(item: FacePrediction, title: str, method: Method | None, unit: int, limit: float = 1.0) -> Image.Image:
    """The crop, the map over it where there is one, and seven bars. limit: the map's value of full colour."""
    line = round(1.5 * unit)
    width, height = card_size(unit)
    card = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(card)
    pen.text((unit // 2, line // 2), title, fill=INK, font=typeface(unit, bold=True), anchor="lm")
    mapped = blend_crop(item.crop, item.map, method, limit) if item.map is not None and method else None
    side = round(7 * line / 2) - unit // 4 if mapped is not None else 5 * unit
    for row, picture in enumerate([item.crop] if mapped is None else [item.crop, mapped]):
        scaled = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
        card.paste(scaled, (unit // 2, round(1.25 * line) + row * (side + unit // 4)))
    left = unit + side + unit // 2
    for row, share in enumerate(item.probabilities):
        place = left, round((1.75 + row) * line), width - unit // 2
        draw_bar(pen, row, float(share), *place, unit, quiet=item.is_unsure and EMOTIONS[row] not in item.candidates)
    return card


def blend_crop(crop: np.ndarray, values: np.ndarray, method: Method, limit: float) -> np.ndarray:
    """The map over the crop uint8 S×S×3, enlarged four times so that colours change smoothly: uint8 4S×4S×3."""
    size = (4 * len(crop), 4 * len(crop))
    smooth = smooth_signs(values, method)
    face = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC) / 255
    large = cv2.resize(smooth, size, interpolation=cv2.INTER_LINEAR)
    return (255 * np.clip(blend_map(face, large, limit, method), 0, 1)).astype(np.uint8)


def draw_bar(
    pen: ImageDraw.ImageDraw,
    row: int,
    share: float,
    left: int,
    middle: int,
    right: int,
    unit: int,
    *,
    quiet: bool = False,
) -> None:
    """Name of a class, pale where `quiet`, its probability as a bar and as a number."""
    start, end = left + round(5.3 * unit), right - round(3.3 * unit)
    pen.text((left, middle), EMOTIONS[row], fill=PALE if quiet else INK, font=typeface(unit), anchor="lm")
    half = round(0.4 * unit)
    pen.rectangle((start, middle - half, end, middle + half), fill=TRACK)
    if round(share * (end - start)) > 0:
        pen.rectangle((start, middle - half, start + share * (end - start), middle + half), fill=COLORS[row])
    pen.text((right, middle), percent(share), fill=INK, font=typeface(unit), anchor="rm")


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
