"""Pictures that strangers send, opened with care, and the examples that the page offers."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from skimage import data

from config import EMOTIONS
from synthetic_faces import draw_face
from utils import UserError

LONGEST_SIDE = 3000  # of a photo as it is searched; larger ones are scaled down
DRAWN = ("Happy", "Surprise", "Sad", "Angry")  # expressions of the drawn examples, four
SIDE = 320  # of a drawn face


def open_photo(path: Path, max_pixels: int) -> np.ndarray:
    """uint8 H×W×3 RGB, upright, at most LONGEST_SIDE pixels a side.

    UserError for a file that is not a picture and for one of more than `max_pixels`, which is not decoded: a few
    kilobytes can stand for gigabytes of pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                check_size(file, max_pixels)
                file.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # JPEG: decoded at a smaller scale at once
                picture = ImageOps.exif_transpose(on_white(file))
    except Image.DecompressionBombError as error:
        raise UserError(f"this picture has too many pixels; at most {max_pixels / 1e6:g} million are taken") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError("this file cannot be read as a picture; take a JPEG, PNG or WebP") from error
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(picture)


def check_size(file: Image.Image, max_pixels: int) -> None:
    width, height = file.size
    if width * height > max_pixels:
        raise UserError(
            f"this picture has {width} × {height} pixels, {width * height / 1e6:.0f} million; at most "
            f"{max_pixels / 1e6:g} million are taken. Make it smaller and try again"
        )


def on_white(picture: Image.Image) -> Image.Image:
    """The picture in RGB, what is transparent in it white; its orientation is kept for exif_transpose."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


# ── examples ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def make_examples() -> dict[str, np.ndarray]:
    """A photo that comes with scikit-image, drawn faces, and all of these together: name → uint8 H×W×3."""
    drawn = {f"{name}, drawn": draw_example(number, name) for number, name in enumerate(DRAWN)}
    faces = np.stack(list(drawn.values())).reshape(2, 2, SIDE, SIDE, 3)
    four = np.concatenate([np.concatenate(row, axis=1) for row in faces])
    return {"a photo": data.astronaut(), **drawn, "four drawn faces": four}


def draw_example(number: int, emotion: str) -> np.ndarray:
    """uint8 SIDE×SIDE×3, a face of its own for each expression."""
    return draw_face(EMOTIONS.index(emotion), subject=number, sample=number, size=SIDE, seed=3, intensity=0.9).image
