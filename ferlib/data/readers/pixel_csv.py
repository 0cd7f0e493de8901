"""CSVs with a row of pixel values per face, as FER2013 and CK+ lie on Kaggle."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import Face, parse_code
from ferlib.data.readers.trees import FER_PLUS, Tree, ZipTree
from ferlib.runtime.errors import UserError

COLUMNS = {"emotion", "pixels", "Usage"}
USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}


def pixel_csv(tree: Tree, facts: DatasetFacts, emotions: Sequence[str]) -> Iterator[Face] | None:
    """A CSV with the columns emotion (a code into `emotions`), pixels and Usage in any order, spaces around allowed.

    UserError if the tree is a CSV of other columns, None if there is none.
    """
    for path in tree.paths:
        if path.endswith(".csv") and not path.endswith(FER_PLUS):
            with io.TextIOWrapper(tree.open(path), "utf-8-sig") as file:
                columns = [name.strip() for name in file.readline().split(",")]
            if set(columns) >= COLUMNS:
                return read_pixel_csv(tree, path, columns, facts, emotions)
    if tree.root.suffix == ".csv":
        raise UserError(f"{tree.root} does not begin with the columns emotion, pixels, Usage; download it again")
    return None


def read_pixel_csv(
    tree: Tree, path: str, columns: list[str], facts: DatasetFacts, emotions: Sequence[str]
) -> Iterator[Face]:
    """The faces row by row, in the memory of one row; UserError that names the row for one that breaks the format."""
    emotion, pixels, usage = (columns.index(name) for name in ("emotion", "pixels", "Usage"))
    with io.TextIOWrapper(tree.open(path), "utf-8-sig", newline="") as file:
        for row, values in enumerate(csv.reader(file), start=1):
            if row == 1 or not values:
                continue
            where = f"{tree.root} ({path}), row {row}" if isinstance(tree, ZipTree) else f"{tree.root}, row {row}"
            if len(values) != len(columns):
                raise UserError(f"{where}: {len(values)} columns instead of {len(columns)}; the file may be cut short")
            label = parse_code(values[emotion], emotions, 0, where)
            if label < len(facts.classes):
                image = parse_pixels(values[pixels], facts.size, where)
                yield Face(image, label, parse_usage(values[usage].strip(), where), f"row_{row}")


def parse_pixels(text: str, size: int, where: str) -> np.ndarray:
    """uint8 size×size×1 from numbers between spaces; UserError for other text."""
    try:
        values = np.fromstring(text, dtype=np.int64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise UserError(f"{where}: the pixels are not whole numbers between spaces") from error
    if len(values) != size * size:
        raise UserError(f"{where}: {len(values)} pixels instead of {size}×{size} = {size * size}")
    if values.min() < 0 or values.max() > 255:
        raise UserError(f"{where}: pixel values {values.min()}..{values.max()} are outside 0..255")
    return values.astype(np.uint8).reshape(size, size, 1)


def parse_usage(text: str, where: str) -> str:
    """The split of a Usage such as PublicTest; UserError for other words."""
    if text not in USAGES:
        raise UserError(f"{where}: unknown Usage '{text}'; known are {', '.join(USAGES)}")
    return USAGES[text]
