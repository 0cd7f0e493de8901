"""Pictures of the page as data URIs: the photo, a face, a map over it and alone; nothing is written to a file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ferlib.explanations.maps import color_limit, sum_blocks
from ferlib.explanations.specs import Method
from ferlib.faces.crops import DetectedFace, crop_face
from ferlib.figures.blending import overlay, stretch, tint
from ferlib.figures.panels import SIGNED, SIZES

if TYPE_CHECKING:
    from ferlib.webpage.photo_results import PhotoResult

PHOTO_SIDE = 1100  # pixels of the longest side of the photo on the page
MAP_SIDE = 352  # pixels of a face or a map on the page, at least
CROP_SIDE = 400  # pixels of the crop of a face that maps are drawn over


@dataclass(frozen=True)
class EncodedPhoto:
    """A photo for the page."""

    uri: str
    width: int
    height: int


def to_uri(picture: np.ndarray, kind: str = "WEBP", **options: Any) -> str:
    """uint8 H×W×3 as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def encode_photo(photo: np.ndarray) -> EncodedPhoto:
    """The photo uint8 H×W×3, scaled down to PHOTO_SIDE where it is larger."""
    picture = Image.fromarray(photo)
    picture.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return EncodedPhoto(to_uri(np.asarray(picture), quality=88), picture.width, picture.height)


def encode_crop(photo: np.ndarray, face: DetectedFace) -> bytes:
    """The crop of a face as JPEG, CROP_SIDE pixels wide."""
    buffer = io.BytesIO()
    Image.fromarray(crop_face(photo, face, CROP_SIDE)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def enlarge(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 H×W×3 → float side×side×3 in 0..1."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)) / 255


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """float in 0..1 → uint8."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def central_square(picture: np.ndarray) -> np.ndarray:
    """The largest central square of H×W×3."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def strip_margin(picture: np.ndarray, margin: int) -> np.ndarray:
    """H×W… without `margin` pixels at each border."""
    return picture[margin : len(picture) - margin, margin : picture.shape[1] - margin]


def draw_map(result: PhotoResult, chosen: int, values: np.ndarray, method: Method) -> tuple[dict[str, str], float]:
    """Data URIs of the network's input, the face of the photo, the map over it and the map alone; the colour limit.

    values: float32 s×s, a map of the network's input. Attributions that add up are drawn as sums over blocks of pixels,
    as their signs change from pixel to pixel. The colour limit is the value that gets full colour.
    """
    values = sum_blocks(values)[0] if method.summed else values
    limit = color_limit(values, method.quantile)
    side = len(values) * -(-MAP_SIDE // len(values))  # every cell has the same number of pixels
    face, large = crop_input(result, chosen, side), enlarge_map(values, side, smooth=not method.signed)
    if method.signed:
        over, alone = overlay(face, large, limit), SIGNED((large / limit + 1) / 2)
    else:
        over, alone = tint(stretch(face), large, limit), SIZES(large / limit)
    given = enlarge(strip_margin(result.crops[chosen], result.margin), side)
    pictures = {"input": given, "face": face, "over": over, "alone": alone[..., :3]}
    return {name: to_uri(to_bytes(picture), quality=90) for name, picture in pictures.items()}, limit


def crop_input(result: PhotoResult, chosen: int, side: int) -> np.ndarray:
    """The area of the network's input, in more pixels than the network gets: float side×side×3 in 0..1."""
    face = np.asarray(Image.open(io.BytesIO(result.close_ups[chosen])))
    return enlarge(strip_margin(face, round(result.margin * len(face) / result.crops.shape[1])), side)


def enlarge_map(values: np.ndarray, side: int, smooth: bool) -> np.ndarray:
    """float h×h → side×side, where `side` is a multiple of h: interpolated, or as squares (for maps with signs)."""
    if not smooth:
        return np.kron(values, np.ones((side // len(values),) * 2))
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR))
