"""Photos of any kind as RGB pixels: files found, turned upright, flattened, refused where they are no pictures."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ferlib.runtime.errors import UserError

PICTURE = re.compile(r"\.(?:jpe?g|png|bmp|tiff?|webp|gif)$", re.I)
MAX_PIXELS = 80_000_000  # of a picture; a small file may unpack to far more, to fill the memory
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # grey with more than 8 bits
TWELVE_BITS = 4095


@dataclass(frozen=True)
class Photo:
    """A picture ready for a detector, and what was done to it on the way."""

    pixels: np.ndarray  # uint8 H×W×3 RGB
    notes: tuple[str, ...] = ()


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """The files given, and those of folders and their subfolders that are named as pictures, in order.

    UserError for a path that does not exist and for a folder without pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            pictures = sorted(file for file in path.rglob("*") if PICTURE.search(file.name) and is_visible(file, path))
            if not pictures:
                raise UserError(f"{path} holds no picture (jpg, png, bmp, tif, webp, gif)")
            found += pictures
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist")
    return list(dict.fromkeys(found))


def is_visible(file: Path, folder: Path) -> bool:
    """Not one of the hidden files that cameras, archives and file managers leave."""
    return file.is_file() and not any(part.startswith((".", "__MACOSX")) for part in file.relative_to(folder).parts)


def read_photo(source: Path | str | Image.Image | np.ndarray, name: str = "", max_pixels: int = MAX_PIXELS) -> Photo:
    """A file, a PIL image or an array (uint8 H×W, H×W×3 RGB or H×W×4 RGBA) as RGB pixels.

    name: what errors call it, by default a file's path. UserError for files that are missing, broken, no pictures or of
    more than `max_pixels`; ValueError for other arrays.
    """
    if isinstance(source, np.ndarray):
        return flatten(from_array(source))
    if isinstance(source, Image.Image):
        check_size(source, name or "the picture", max_pixels)
        return flatten(source)
    name = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, at a lower limit
            with Image.open(source) as picture:
                check_size(picture, name, max_pixels)
                return flatten(picture)
    except FileNotFoundError as error:
        raise UserError(f"{name} does not exist") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large; more than {max_pixels / 1e6:g} million pixels are refused") from error
    except UnidentifiedImageError as error:  # its words hold the whole path
        raise UserError(f"{name} cannot be read as a picture; take a JPEG, PNG or WebP") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow raises all of these for broken files
        raise UserError(f"{name} cannot be read as a picture: {error}") from error


def from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape
    if array.dtype != np.uint8 or 0 in shape or not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))):
        raise ValueError(f"a picture is uint8 H×W, H×W×3 or H×W×4, not {array.dtype} {shape}")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and shape[2] == 1 else array)


def check_size(picture: Image.Image, name: str, max_pixels: int) -> None:
    """UserError for more than `max_pixels`; asked before anything is decoded."""
    width, height = picture.size
    if width * height > max_pixels:
        raise UserError(
            f"{name} has {width}×{height} pixels; more than {max_pixels / 1e6:g} million are refused, as they may "
            "be there to fill the memory: make it smaller"
        )


def flatten(picture: Image.Image) -> Photo:
    """The first frame, upright, over white, in 8 bits and RGB."""
    notes = []
    if getattr(picture, "n_frames", 1) > 1:
        notes.append(f"the first of {picture.n_frames} frames")
    upright = ImageOps.exif_transpose(picture)
    if picture.getexif().get(0x0112, 1) != 1:
        notes.append("turned as its EXIF says")
    if upright.mode in DEEP_MODES:
        upright = to_8_bits(upright)
        notes.append("grey of more than 8 bits, scaled to 8")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
        notes.append("transparent parts shown on white")
    elif upright.mode in ("L", "1"):
        notes.append("grey")
    return Photo(np.array(upright.convert("RGB")), tuple(notes))


def to_8_bits(picture: Image.Image) -> Image.Image:
    """Full scale is 65,535, or 4,095 where no value exceeds it; of floating point, the largest value."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64)).clip(min=0)
    top = values.max(initial=0)
    full = top if picture.mode == "F" or top > 65535 else (TWELVE_BITS if top <= TWELVE_BITS else 65535)
    return Image.fromarray((values / (full or 1) * 255).round().astype(np.uint8))
