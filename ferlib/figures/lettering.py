"""Lettering: the typeface, fonts for signs that it lacks, lines and sizes that fit, colours that contrast.

Imports matplotlib, which takes a second of CPU, only for texts with signs beyond Latin-1.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from ferlib.runtime.errors import UserError

FALLBACKS = (  # for names in other scripts; where none is installed their signs are drawn as �
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAexGothic", "PingFang SC", "PingFang HK",
    "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo", "Arial Unicode MS", "Microsoft YaHei", "Yu Gothic",
    "Malgun Gothic", "Noto Emoji", "Symbola", "Segoe UI Emoji",
)  # fmt: skip
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
LATIN = frozenset(map(chr, (*range(0x20, 0x7F), *range(0xA0, 0x100))))  # signs of Latin-1, all of which DejaVu Sans has
SMALLEST = 8  # pixels; smaller letters cannot be read


@lru_cache
def typeface(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib, in a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(fonts_folder() / name), size)


@lru_cache
def fonts_folder() -> Path:
    """matplotlib's own fonts, found without importing it."""
    package = importlib.util.find_spec("matplotlib")
    if package is None or package.origin is None:
        raise UserError("matplotlib, whose fonts pictures are lettered with, is missing: pip install matplotlib")
    return Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"


@lru_cache
def fallback_fonts() -> dict[str, str]:
    """Those of FALLBACKS that are installed: family → file."""
    from matplotlib.font_manager import fontManager

    installed = {font.name: font.fname for font in reversed(fontManager.ttflist)}
    return {family: installed[family] for family in FALLBACKS if family in installed}


def families() -> list[str]:
    """matplotlib's font.family: each sign is drawn by the first font that has it."""
    return ["DejaVu Sans", *fallback_fonts()]


@lru_cache
def signs_of(file: str) -> frozenset[int]:
    """The code points that a font file has signs for."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(file).get_charmap())


def drawable(text: str, files: Sequence[str] | None = None) -> str:
    """The text with � for each sign that none of the fonts has, by default of those that matplotlib draws with."""
    known = [signs_of(file) for file in files or (plain_file(), *fallback_fonts().values())]
    return "".join(char if char.isspace() or any(ord(char) in signs for signs in known) else UNKNOWN for char in text)


def letter(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text as Pillow, which draws with one font at a time, can draw it, and the font that has most of it."""
    if LATIN.issuperset(text):
        return text, typeface(size)
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


def wrap(text: str, inches: float, size: float) -> str:
    """Text of `size` points in as few lines of so many inches as it needs, by a letter's mean width, equally long.

    A number and its % stay in one line.
    """
    text = text.replace(" %", "\N{NO-BREAK SPACE}%")
    letters = max(8, int(inches * 72 / (0.58 * size)))
    lines = textwrap.wrap(text, letters, break_long_words=False)
    while letters > 8 and len(shorter := textwrap.wrap(text, letters - 1, break_long_words=False)) == len(lines):
        letters, lines = letters - 1, shorter
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}%", " %")
