"""Which files are pictures: the formats that the installed Pillow decodes, their endings, and what is left out."""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from PIL import Image

# Pillow knows these, but hands their pixels to other programs (Ghostscript for EPS) or to nothing at all
UNDECODABLE = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
COMMON = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # tried first
ALWAYS_READ = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm"}  # endings of formats of every Pillow
HEIF_ENDINGS = (".heic", ".heics", ".heif", ".heifs", ".hif")
HEIF_PACKAGE = "pillow-heif"
HOW_TO_READ_HEIF = f"HEIC is read after: pip install {HEIF_PACKAGE}"
NAMED = 5  # files that a note names
LOADING = threading.Lock()


def picture_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it decodes here, HEIF among them where pillow-heif is installed."""
    with LOADING:  # threads that decode wait for the first one to load Pillow's plugins
        return load_formats()


@functools.cache
def load_formats() -> tuple[str, ...]:
    """As picture_formats, for one thread."""
    if importlib.util.find_spec(HEIF_PACKAGE.replace("-", "_")):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    found = [name for name in Image.OPEN if name not in UNDECODABLE]
    return tuple(sorted(found, key=lambda name: COMMON.index(name) if name in COMMON else len(COMMON)))


@functools.cache
def picture_endings() -> frozenset[str]:
    """The endings of those formats in lower case, each with its dot."""
    formats = picture_formats()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)


def optional_endings(paths: Iterable[str]) -> list[str]:
    """The endings among the paths that are read here and not by every Pillow: what an installation adds or takes."""
    found = {os.path.splitext(f"_{path}")[1].lower() for path in paths}  # noqa: PTH122 — ten times as fast as a Path
    return sorted((found & picture_endings()) - ALWAYS_READ)


def is_picture(path: str | PurePath) -> bool:
    """Whether a file is named as a picture."""
    return os.path.splitext(path)[1].lower() in picture_endings()  # noqa: PTH122 — ten times as fast as a Path


def is_hidden(path: str) -> bool:
    """Whether a path with slashes is of the files that cameras, archives and file managers leave."""
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in path.split("/"))


def is_heif(path: str | PurePath) -> bool:
    """Whether a file is named as a picture of an iPhone's kind."""
    return str(path).lower().endswith(HEIF_ENDINGS)


def left_out(place: object, names: Sequence[str], of: int, reason: str = "as they are no pictures") -> str:
    """The line that says which of `of` files are not read, and how to read them; empty where all are."""
    if not names:
        return ""
    more = ", …" if len(names) > NAMED else ""
    heif = any(map(is_heif, names)) and HEIF_ENDINGS[0] not in picture_endings()
    return (
        f"{place}: {len(names):,} of {of:,} files are left out, {reason}: {', '.join(names[:NAMED])}{more}"
        f"{f'; {HOW_TO_READ_HEIF}' if heif else ''}"
    )
