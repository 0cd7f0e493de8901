"""Colours of a picture's ICC profile in sRGB."""

from __future__ import annotations

import functools
import io
import struct

import numpy as np
from PIL import Image, features

MODES = ("RGB", "L", "CMYK")  # those of which profiles speak; the modes of others are converted first
NEAR = 3  # of 255: a profile that changes no colour by more is sRGB itself, as most are


def as_srgb(picture: Image.Image) -> Image.Image | None:
    """The picture in sRGB, with its transparency; None where its profile is sRGB, is broken or is of other modes."""
    alpha = None
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
    mode = "L" if picture.mode in ("LA", "La") else picture.mode if picture.mode in MODES else "RGB"
    transform = transform_of(picture.info["icc_profile"], mode)
    if transform is None:
        return None
    plain = picture.convert("RGBA").convert(mode) if alpha else picture.convert(mode)
    converted: Image.Image = transform.apply(plain)
    if mode == "L":
        converted = converted.convert("L")
    if alpha:
        converted = converted.convert("RGB")
        converted.putalpha(alpha)
    return converted


@functools.lru_cache(maxsize=64)  # the pictures of a set share their profiles
def transform_of(profile: bytes, mode: str):  # type: ignore[no-untyped-def]  # of Pillow's own type, loaded when needed
    """Pillow's transform from the profile to sRGB for pictures of `mode`; None for no change and broken profiles."""
    if not features.check("littlecms2"):
        return None
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode != "CMYK":
            colours = sample_colours(mode)
            change = np.asarray(transform.apply(colours), int) - np.asarray(colours.convert("RGB"), int)
            if np.abs(change).max() <= NEAR:
                return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, struct.error):
        return None
    return transform


def sample_colours(mode: str) -> Image.Image:
    """A picture "L" or "RGB" with colours from all over their range."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    if mode == "L":
        return Image.fromarray(steps[None])
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(9, 81, 3))
