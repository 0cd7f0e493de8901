"""The one decoder of pictures: files, PIL images and arrays as upright 8-bit grey or RGB, and their central square."""

from __future__ import annotations

import contextlib
import re
import stat
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ferlib.data.colours import as_srgb
from ferlib.data.picture_files import HEIF_ENDINGS, HOW_TO_READ_HEIF, is_heif, picture_endings, picture_formats
from ferlib.runtime.errors import UserError

MAX_PIXELS = 80_000_000  # of a picture; a small file may unpack to far more and fill the memory
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # grey with more than 8 bits
SCALES = (255, 4095, 65535)  # white in 8, 12 and 16 bits
FLOAT_SCALES = {2: 1, 280: 255, 4095: 4095, 72_000: 65535}  # largest value → white: resampling overshoots a little
SCALED_FORMATS = ("PPM", "JPEG2000")  # whose integers Pillow scales to 16 bits
DEEP_NOTE = "grey of more than 8 bits"  # begins the note that says what was taken as white
ORIENTATION = 0x0112  # tag of EXIF
TURNED = range(2, 9)  # its values of pictures that are not upright
DEEP_COLOUR_NOTE = "colours of 16 bits, of which the upper 8 are taken"
COUNTED_NOTES = (DEEP_NOTE, DEEP_COLOUR_NOTE)  # of these a data set says how many pictures have them
ALMOST_BLACK = 15  # largest value of colours of 12 bits of which the upper 8 of 16 are taken
BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
TRANSPARENT_BITS = {"L;2": 85, "L;4": 17}  # rawmode of a PNG → what Pillow multiplies its pixels by, not its tRNS
FILTERS = threading.Lock()  # the filters of warnings belong to the whole process
# Pillow raises all of these for broken files
BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, ArithmeticError, AttributeError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip

Source = Path | str | IO[bytes] | Image.Image | np.ndarray


@dataclass(frozen=True)
class DecodedPicture:
    """A picture in 8 bits, and what was done to it on the way."""

    image: Image.Image  # mode "L" or "RGB"
    notes: tuple[str, ...] = ()


def decode(source: Source, name: str = "", max_pixels: int = MAX_PIXELS) -> DecodedPicture:
    """The first frame of a picture: turned upright by its EXIF, in sRGB, over white, scaled to 8 bits, grey or RGB.

    source: a file, its path, a PIL image or an array (uint8 H×W, H×W×3 RGB or H×W×4 RGBA). name: what errors call it,
    by default a file's path. UserError for files that are missing, broken, no pictures or of more than `max_pixels`;
    ValueError for other arrays.
    """
    if isinstance(source, np.ndarray):
        return flatten(from_array(source))
    name = name or ("the picture" if isinstance(source, Image.Image) else str(source))
    if isinstance(source, str | Path):
        check_file(source, name)
    try:
        with contextlib.nullcontext(source) if isinstance(source, Image.Image) else open_picture(source) as picture:
            check_size(picture, name, max_pixels)
            return flatten(picture)
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large; more than {max_pixels / 1e6:g} million pixels are refused") from error
    except UnidentifiedImageError as error:  # its message holds the whole path
        heif = is_heif(name) and HEIF_ENDINGS[0] not in picture_endings()
        advice = HOW_TO_READ_HEIF if heif else "take a JPEG, PNG or WebP"
        raise UserError(f"{name} cannot be read as a picture; {advice}") from error
    except BROKEN as error:
        raise UserError(f"{name} cannot be read as a picture: {error or type(error).__name__}") from error


def check_file(path: Path | str, name: str) -> None:
    """UserError for a path that leads to no regular file: opening a pipe or a device may never end."""
    path = Path(path)
    try:
        kind = path.stat().st_mode
    except FileNotFoundError as error:
        link = " is a link to a file that" if path.is_symlink() else ""
        raise UserError(f"{name}{link} does not exist") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read as a picture: {error}") from error
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a pipe or a device"
        raise UserError(f"{name} cannot be read as a picture: it is {what}")


def open_picture(source: Path | str | IO[bytes]) -> Image.Image:
    """Pillow's open without its warnings: check_size refuses large pictures at a lower limit."""
    with FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(source, formats=picture_formats())


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
    """The first frame, upright, in sRGB, over white, in 8 bits, grey or RGB."""
    notes = []
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        notes.append(f"the first of {frames} frames")
    if picture.format == "PNG":
        scale_transparency(picture)
    if picture.format == "TIFF" and tag(picture, PLANES) == 2 and tag(picture, BITS) > 8 and picture.mode != "F":
        raise ValueError("Pillow does not read separate planes of more than 8 bits")
    if deep := is_deep_colour(picture):
        check_depth(picture)
    upright = picture
    if picture.getexif().get(ORIENTATION, 1) in TURNED:
        upright = ImageOps.exif_transpose(picture)
        notes.append("turned upright by its EXIF orientation")
    if upright.mode in DEEP_MODES:
        upright, white = to_8_bits(upright, picture)
        notes.append(f"{DEEP_NOTE}, scaled to 8 with {white:,g} as white")
    elif "icc_profile" in upright.info and (converted := as_srgb(upright)) is not None:
        upright = converted
        notes.append("colours converted from its ICC profile")
    grey = upright.mode in ("L", "1")
    if upright.has_transparency_data:
        upright = over_white(upright)
        notes.append("transparent parts shown on white")
    elif grey:
        notes.append("grey")
    plain = upright.convert("L" if upright.mode in ("L", "1") else "RGB")
    if deep:
        notes.append(DEEP_COLOUR_NOTE)
    return DecodedPicture(plain, tuple(notes))


def is_deep_colour(picture: Image.Image) -> bool:
    """Whether a picture has 16 bits of each colour, or of grey with transparency, of which Pillow keeps the upper 8.

    Known before the picture is loaded, by the name of what it is stored as: RGB;16B.
    """
    stored = " ".join(str(tile[3]) for tile in getattr(picture, "tile", ()))
    return picture.mode not in DEEP_MODES and re.search(r"(?<!BGR);16", stored) is not None  # BGR;16: 16 for all three


def check_depth(picture: Image.Image) -> None:
    """ValueError where 16 bits of each colour, or of transparency, hold 12 or fewer: Pillow keeps 4 or fewer."""
    largest = [int(np.asarray(band).max()) for band in picture.split()]
    colours, rest = (largest[:1], largest[1:]) if picture.mode == "LA" else (largest[:3], largest[3:])
    if any(0 < max(values) <= ALMOST_BLACK for values in (colours, rest) if values):
        raise ValueError("its 16 bits a colour hold 12 or fewer, of which Pillow keeps 4 or fewer; save it with 8")


def over_white(picture: Image.Image) -> Image.Image:
    """RGBA without transparency."""
    picture = picture.convert("LA") if picture.mode == "La" else picture  # Pillow has no way from La to RGBA
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))


def scale_transparency(picture: Image.Image) -> None:
    """Gives the transparent colour of a PNG the depth to which Pillow scales its pixels when it loads them."""
    colour = picture.info.get("transparency")
    tiles = getattr(picture, "tile", ())  # none in a picture that is loaded
    rawmode = str(tiles[0][3]) if tiles else ""
    if isinstance(colour, int) and rawmode in TRANSPARENT_BITS:
        picture.info["transparency"] = colour * TRANSPARENT_BITS[rawmode]
    elif isinstance(colour, tuple) and rawmode.startswith("RGB;16"):
        picture.info["transparency"] = tuple(value >> 8 for value in colour)


def tag(picture: Image.Image, number: int, otherwise: int = 0) -> Any:
    """The first value of a tag of TIFF, `otherwise` where it is missing or the file is of another format."""
    value = getattr(picture, "tag_v2", {}).get(number, otherwise)
    return value[0] if isinstance(value, tuple) else value


# ── grey of more than 8 bits ─────────────────────────────────────────────────────────────────────────────────────────


def to_8_bits(picture: Image.Image, source: Image.Image) -> tuple[Image.Image, float]:
    """Grey in 8 bits, LA where a value is transparent, and the value that is white; `source`: as opened."""
    values = np.asarray(picture)
    if values.dtype == np.int32 and source.format == "TIFF" and tag(source, SAMPLE_FORMAT, 1) == 1:
        values = values.view(np.uint32)  # Pillow reads unsigned numbers as signed ones
    white = full_scale(values, source)
    scaled = scale(values, white)
    if tag(source, PHOTOMETRIC, 1) == 0:  # 0 is white; Pillow heeds it up to 8 bits only
        scaled = 255 - scaled
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        scaled = np.dstack([scaled, np.where(values == transparent, 0, 255).astype(np.uint8)])
    return Image.fromarray(scaled), white


def full_scale(values: np.ndarray, source: Image.Image) -> float:
    """The value that is white: what the format states, or the largest one of the depth that holds all values.

    Whole numbers up to 255 are 8-bit data in a wider type, those up to 4,095 are of 12 bits, others of 16; floating
    point also runs from 0 to 1. Where values are larger still, the largest is white.
    """
    bits = tag(source, BITS)
    if 8 < bits < 16:
        return 2**bits - 1
    if source.format in SCALED_FORMATS and values.dtype.kind != "f":
        return SCALES[-1]
    top = float(values[np.isfinite(values)].max(initial=0)) if values.dtype.kind == "f" else int(values.max(initial=0))
    scales = FLOAT_SCALES if values.dtype.kind == "f" else dict(zip(SCALES, SCALES, strict=True))
    return next((white for largest, white in scales.items() if top <= largest), top)


def scale(values: np.ndarray, white: float) -> np.ndarray:
    """uint8 of values in 0..white, rounded; those below, and what is no number, are black, those above are white."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, posinf=white)
    elif values.itemsize == 2 and values.size > 1 << 16:  # of every value once
        every = np.arange(1 << 16).clip(max=white)
        return (every * (255 / white)).round().astype(np.uint8)[values]
    return (values.clip(0, white).astype(np.float64) * (255 / white)).round().astype(np.uint8)
