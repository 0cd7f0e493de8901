"""Photos: files found in folders, names for their annotated pictures, pixels as RGB with notes on their decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlib.data.decoding import MAX_PIXELS, Source, decode
from ferlib.data.picture_files import is_hidden, is_picture, left_out
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note
from ferlib.runtime.runs import slug


@dataclass(frozen=True)
class Photo:
    """A picture ready for a detector, and what was done to it on the way."""

    pixels: np.ndarray  # uint8 H×W×3 RGB
    notes: tuple[str, ...] = ()


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """The files given, and those of folders and their subfolders that are named as pictures, in order.

    Other files in folders are counted in a printed line. UserError for a path that does not exist or is no file, as a
    pipe, and for a folder without pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if is_visible(file, path))
            pictures = [file for file in files if is_picture(file) and file.is_file()]
            others = [str(file.relative_to(path)) for file in sorted(set(files) - set(pictures))]
            line = left_out(path, others, len(files))
            if not pictures:
                raise UserError(line or f"{path} holds no picture")
            print_note(line)
            found += pictures
        elif path.is_file():
            found.append(path)
        elif path.exists():
            raise UserError(f"{path} is neither a file nor a folder")
        else:
            raise UserError(f"{path} does not exist")
    return list(dict.fromkeys(found))


def is_visible(file: Path, folder: Path) -> bool:
    """Not one of the hidden files that cameras, archives and file managers leave."""
    return not file.is_dir() and not is_hidden(file.relative_to(folder).as_posix())


def name_photos(paths: Sequence[Path]) -> dict[str, Path]:
    """A distinct name for each file: its stem, with its folder or a number where another file has that name."""
    named: dict[str, Path] = {}
    for path in paths:
        for name in candidate_names(path):
            if named.setdefault(name, path) is path:
                break
    return named


def candidate_names(path: Path) -> Iterator[str]:
    """Names of a file without its suffix, the shortest first, without end."""
    yield slug(path.stem)
    yield slug(f"{path.parent.name}-{path.stem}" if path.parent.name else path.name)
    number = 2
    while True:
        yield f"{slug(path.stem)}-{number}"
        number += 1


def read_photo(source: Source, name: str = "", max_pixels: int = MAX_PIXELS) -> Photo:
    """A file, its path, a PIL image or an array as RGB pixels; arguments and errors as in data.decoding.decode."""
    picture = decode(source, name, max_pixels)
    return Photo(np.array(picture.image.convert("RGB")), picture.notes)
