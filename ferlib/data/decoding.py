"""The one decoder of pictures: files, PIL images and arrays as upright 8-bit grey or RGB, and their central square."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ferlib.runtime.errors import UserError

MAX_PIXELS = 80_000_000  # of a picture; a small file may unpack to far more and fill the memory
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # grey with more than 8 bits
TWELVE_BITS = 4095
ORIENTATION = 0x0112  # tag of EXIF; 1: upright
FILTERS = threading.Lock()  # the filters of warnings belong to the whole process

Source = Path | str | IO[bytes] | Image.Image | np.ndarray


@dataclass(frozen=True)
class DecodedPicture:
    """A picture in 8 bits, and what was done to it on the way."""

    image: Image.Image  # mode "L" or "RGB"
    notes: tuple[str, ...] = ()


def decode(source: Source, name: str = "", max_pixels: int = MAX_PIXELS) -> DecodedPicture:
    """The first frame of a picture: turned upright by its EXIF, over white, scaled to 8 bits, grey or RGB.

    source: a file, its path, a PIL image or an array (uint8 H×W, H×W×3 RGB or H×W×4 RGBA). name: what errors call it,
    by default a file's path. UserError for files that are missing, broken, no pictures or of more than `max_pixels`;
    ValueError for other arrays.
    """
    if isinstance(source, np.ndarray):
        return flatten(from_array(source))
    if isinstance(source, Image.Image):
        check_size(source, name or "the picture", max_pixels)
        return flatten(source)
    name = name or str(source)
    try:
        with open_picture(source) as picture:
            check_size(picture, name, max_pixels)
            return flatten(picture)
    except FileNotFoundError as error:
        raise UserError(f"{name} does not exist") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large; more than {max_pixels / 1e6:g} million pixels are refused") from error
    except UnidentifiedImageError as error:  # its message holds the whole path
        raise UserError(f"{name} cannot be read as a picture; take a JPEG, PNG or WebP") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow raises all of these for broken files
        raise UserError(f"{name} cannot be read as a picture: {error}") from error


def open_picture(source: Path | str | IO[bytes]) -> Image.Image:
    """Pillow's open without its warning about large pictures, which check_size refuses at a lower limit."""
    with FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(source)


def central_square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """uint8 size×size×channels (1 grey, 3 RGB): the central square, scaled bilinearly with antialiasing."""
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(size, size, channels)


def from_array(array: np.ndarray) -> Image.Image:
    """A PIL image of uint8 H×W, H×W×1, H×W×3 RGB or H×W×4 RGBA; ValueError for other arrays."""
    shape = array.shape
    if array.dtype != np.uint8 or 0 in shape or not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))):
        raise ValueError(f"a picture is uint8 H×W, H×W×3 or H×W×4, not {array.dtype} {shape}")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and shape[2] == 1 else array)


def check_size(picture: Image.Image, name: str, max_pixels: int) -> None:
    """UserError for more than `max_pixels`; checked before anything is decoded."""
    width, height = picture.size
    if width * height > max_pixels:
        raise UserError(
            f"{name} has {width}×{height} pixels; more than {max_pixels / 1e6:g} million are refused, as they may "
            "be there to fill the memory: make it smaller"
        )


def flatten(picture: Image.Image) -> DecodedPicture:
    """The first frame, upright, over white, in 8 bits, grey or RGB."""
    notes = []
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        notes.append(f"the first of {frames} frames")
    upright = picture
    if picture.getexif().get(ORIENTATION, 1) != 1:
        upright = ImageOps.exif_transpose(picture)
        notes.append("turned upright by its EXIF orientation")
    if upright.mode in DEEP_MODES:
        upright = to_8_bits(upright)
        notes.append("grey of more than 8 bits, scaled to 8")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
        notes.append("transparent parts shown on white")
    elif upright.mode in ("L", "1"):
        notes.append("grey")
    return DecodedPicture(upright.convert("L" if upright.mode in ("L", "1") else "RGB"), tuple(notes))


def to_8_bits(picture: Image.Image) -> Image.Image:
    """Full scale is 65,535, or 4,095 where no value exceeds it; of floating point, the largest value."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64)).clip(min=0)
    top = values.max(initial=0)
    full = top if picture.mode == "F" or top > 65535 else (TWELVE_BITS if top <= TWELVE_BITS else 65535)
    return Image.fromarray((values / (full or 1) * 255).round().astype(np.uint8))
