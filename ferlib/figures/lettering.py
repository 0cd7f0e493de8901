"""Lettering: the typeface, fonts for signs that it lacks, sizes that fit, colours that contrast with their ground."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import fontManager, get_font
from PIL import ImageFont

FALLBACKS = (  # for names in other scripts; where none is installed their signs are drawn as �
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAexGothic", "PingFang SC", "PingFang HK",
    "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo", "Arial Unicode MS", "Microsoft YaHei", "Yu Gothic",
    "Malgun Gothic", "Noto Emoji", "Symbola", "Segoe UI Emoji",
)  # fmt: skip
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
SMALLEST = 8  # pixels; smaller letters cannot be read


@lru_cache
def typeface(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib, in a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


@lru_cache
def fallback_fonts() -> dict[str, str]:
    """Those of FALLBACKS that are installed: family → file."""
    installed = {font.name: font.fname for font in reversed(fontManager.ttflist)}
    return {family: installed[family] for family in FALLBACKS if family in installed}


def families() -> list[str]:
    """matplotlib's font.family: each sign is drawn by the first font that has it."""
    return ["DejaVu Sans", *fallback_fonts()]


@lru_cache
def signs_of(file: str) -> frozenset[int]:
    """The code points that a font file has signs for."""
    return frozenset(get_font(file).get_charmap())


def drawable(text: str, files: Sequence[str] | None = None) -> str:
    """The text with � for each sign that none of the fonts has, by default of those that matplotlib draws with."""
    known = [signs_of(file) for file in files or (plain_file(), *fallback_fonts().values())]
    return "".join(char if char.isspace() or any(ord(char) in signs for signs in known) else UNKNOWN for char in text)


def letter(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text as Pillow, which draws with one font at a time, can draw it, and the font that has most of it."""
    files = [plain_file(), *fallback_fonts().values()]
    file = min(files, key=lambda file: drawable(text, (file,)).count(UNKNOWN))
    return drawable(text, (file,)), ImageFont.truetype(file, size)


def plain_file() -> str:
    """The file of DejaVu Sans."""
    return str(typeface(SMALLEST).path)


def fit_typeface(text: str, size: int, width: int) -> ImageFont.FreeTypeFont:
    """Bold of `size` pixels, or the largest smaller one with which a label of the text is at most `width` wide."""
    while size > SMALLEST and typeface(size, bold=True).getlength(text) + size > width:
        size -= 1
    return typeface(size, bold=True)


def contrasting(color: str) -> str:
    """Black or white, whichever contrasts with a ground #rrggbb."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
