"""Lettering of pictures that Pillow draws: the typeface, sizes that fit, colours that contrast with their ground."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

SMALLEST = 8  # pixels; smaller letters cannot be read


@lru_cache
def typeface(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib, in a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def fit_typeface(text: str, size: int, width: int) -> ImageFont.FreeTypeFont:
    """Bold of `size` pixels, or the largest smaller one with which a label of the text is at most `width` wide."""
    while size > SMALLEST and typeface(size, bold=True).getlength(text) + size > width:
        size -= 1
    return typeface(size, bold=True)


def contrasting(color: str) -> str:
    """Black or white, whichever contrasts with a ground #rrggbb."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
