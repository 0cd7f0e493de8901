"""Pictures inside the page: plots made smaller, faces, maps as colours with transparency, sheets of thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from ferlib.explanations.maps import sum_blocks
from ferlib.figures.blending import AGAINST, FOR, IMPORTANCE

ENCODINGS = ((1200, 80), (1000, 72), (800, 64), (640, 50))  # (widest side in pixels, WebP quality), best first
MAP_SIDE = 112  # pixels of a map's longer side at most
THUMB_SIDE = 56
SHEET_COLUMNS = 40


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Sheet:
    """Thumbnails of many faces in one picture, each found by its key."""

    uri: str
    columns: int
    rows: int
    places: dict[tuple, tuple[int, int]]  # key → (column, row)


def data_uri(content: bytes) -> str:
    """A WebP picture as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def to_webp(image: Image.Image, **options: object) -> bytes:
    """A picture as the content of a WebP file; options: Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


# ── plots ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def embed_pictures(paths: Iterable[Path], total: int, left_out: list[str]) -> dict[Path, Picture]:
    """The pictures of `paths` that exist and can be read, sized so that all of them together stay in `total` bytes.

    left_out: gets a line on each that cannot be read.
    """
    there = sorted({path for path in paths if path.exists()})
    limit = total // max(1, len(there))
    with ThreadPoolExecutor() as pool:
        pictures = dict(zip(there, pool.map(lambda path: embed_picture(path, limit), there), strict=True))
    left_out += [
        f"a picture is left out: {path} is damaged; delete it and draw it again"
        for path, picture in pictures.items()
        if not picture
    ]
    return {path: picture for path, picture in pictures.items() if picture}


def embed_picture(path: Path, limit: int) -> Picture | None:
    """A picture as a data URI of the best encoding below `limit` bytes, else of the smallest; None if unreadable."""
    try:
        with Image.open(path) as file:
            image = on_white(file)
    except OSError:
        return None
    for side, quality in ENCODINGS:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = to_webp(small, quality=quality, method=2)  # 4 takes three times as long for 8 % less
        if len(content) <= limit:
            break
    return Picture(data_uri(content), *small.size)


def on_white(image: Image.Image) -> Image.Image:
    """`image` as RGB; transparent parts turn white."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


# ── faces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def face_picture(pixels: np.ndarray) -> Picture:
    """A face uint8 H×W×C as it is, at most 160 pixels wide."""
    image = to_image(pixels)
    image.thumbnail((160, 160), Image.Resampling.LANCZOS)
    return Picture(data_uri(to_webp(image, quality=90, method=4)), *image.size)


def to_image(pixels: np.ndarray) -> Image.Image:
    """uint8 H×W×1 or H×W×3 → RGB."""
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))


def thumbnail_sheet(faces: Mapping[tuple, np.ndarray]) -> Sheet | None:
    """All faces uint8 H×W×C, by their keys, in one picture of rows of SHEET_COLUMNS; None where there are none."""
    if not faces:
        return None
    columns = min(SHEET_COLUMNS, len(faces))
    rows = -(-len(faces) // columns)
    sheet = Image.new("RGB", (columns * THUMB_SIDE, rows * THUMB_SIDE))
    places = {key: (number % columns, number // columns) for number, key in enumerate(faces)}
    for key, pixels in faces.items():
        column, row = places[key]
        thumb = to_image(pixels).resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.LANCZOS)
        sheet.paste(thumb, (column * THUMB_SIDE, row * THUMB_SIDE))
    return Sheet(data_uri(to_webp(sheet, quality=68, method=2)), columns, rows, places)


# ── maps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def drawn_values(values: np.ndarray, summed: bool) -> np.ndarray:
    """A map H×W as it is drawn: sums over blocks where attributions add up (`summed`), as in the figures."""
    values = np.asarray(values, dtype=np.float32)
    if not summed:
        return values
    sums, block = sum_blocks(values)
    return np.kron(sums, np.ones((block, block), np.float32))[: values.shape[0], : values.shape[1]]


def map_picture(values: np.ndarray, signed: bool, limit: float) -> str:
    """Drawn values H×W as a data URI in the colours of the figures, of which `limit` gets the full one."""
    image = Image.fromarray(color_map(values, signed, limit))
    image.thumbnail((MAP_SIDE, MAP_SIDE), Image.Resampling.BOX)
    return data_uri(to_webp(image, lossless=True, quality=40, method=3))


def color_map(values: np.ndarray, signed: bool, limit: float) -> np.ndarray:
    """uint8 H×W×4: dark red for and turquoise against the class, their opacity the share of `limit`, or cividis."""
    share = np.clip(values / limit, -1, 1)
    if signed:
        colour, alpha = np.where(share[..., None] > 0, FOR, AGAINST), np.abs(share)
    else:
        colour, alpha = matplotlib.colormaps[IMPORTANCE](np.clip(share, 0, 1))[..., :3], np.ones_like(share)
    return np.round(255 * np.dstack([colour, alpha])).astype(np.uint8)
