"""CSVs with a row of pixel values per face, as FER2013 and CK+ lie on Kaggle."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from config import EMOTIONS
from ferlib.data.facts import DATASETS, SPLITS, DatasetFacts
from ferlib.data.readers.face_files import CSV_NAME, Face, parse_code, visible_files
from ferlib.data.readers.tables import Row, Table, lines_of, open_text
from ferlib.data.readers.trees import FER_PLUS, Tree
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note

COLUMNS = ("emotion", "pixels", "Usage")
LABELLED = {"emotion", "pixels"}
USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
SPLIT_OF_USAGE = {usage.lower(): split for usage, split in USAGES.items()}
CSV_NAMES = {"fer2013": ("fer", "icml_face_data"), "ckplus": ("ck",)}  # data set → how names of its CSVs begin
OWN_NAMES = ("fer2013.csv", "icml_face_data.csv", "ckextended.csv")
CKPLUS_ROWS = 920  # of ckextended.csv; FER2013 has 35,887, and 28,709 in train
ADVICE = "download fer2013.csv, or icml_face_data.csv of the Kaggle challenge; see data/README.md"


class IncompleteError(UserError):
    """Files of a data set that lack a part of it; another place may hold the whole."""


def pixel_csv(tree: Tree, facts: DatasetFacts, emotions: Sequence[str]) -> Iterator[Face] | None:
    """A CSV with the columns emotion (a code into `emotions`), pixels and Usage in any order, case and quotes.

    None if there is none, or only that of another data set, which has the same columns and other codes;
    IncompleteError if the tree is a CSV of other columns, or has one with some of these.
    """
    own = "fer2013" if "fer2013" in facts.places else "ckplus"
    paths = sorted(filter(is_pixel_csv, visible_files(tree)), key=lambda path: not has_own_name(path))
    found = [Table(tree, path) for path in paths]
    tables = [table for table in found if set_of_table(table) in (own, None)]
    if found and not tables:
        return None
    wanted = {name.lower() for name in COLUMNS}
    for table in tables:
        if wanted <= set(table.columns):
            return read_faces(table, facts, emotions, lambda row: parse_usage(row.cells["usage"].strip(), row.where))
    for table in tables:
        if set(table.columns) >= LABELLED and "fer2013" in facts.places and is_official_order(table, emotions):
            print_note(
                f"{table.name} has no column Usage; its labels are those of FER2013 in the official order, so that the "
                "first 28,709 rows are train, the next 3,589 val and the last 3,589 test"
            )
            return read_faces(table, facts, emotions, lambda row: official_split(row.number))
    lacking = [describe_lacking(table) for table in tables if "pixels" in table.columns]
    if lacking:
        raise IncompleteError(f"{'; '.join(lacking)}; {ADVICE}")
    if tree.root.suffix.lower() == ".csv" and tree.root.is_file():
        raise IncompleteError(f"{tree.root} does not begin with the columns {', '.join(COLUMNS)}; download it again")
    return None


def is_pixel_csv(path: str) -> bool:
    """Whether a file may hold pixels: a CSV other than the votes of FER+."""
    return path.lower().endswith(".csv") and not path.lower().endswith(FER_PLUS)


def has_own_name(path: str) -> bool:
    """Whether a CSV is named as its publisher names it; others beside it may be parts of it."""
    return path.rpartition("/")[2].lower() in OWN_NAMES


def named_set(path: str) -> str | None:
    """The data set that the name of a CSV states: fer2013 (1).csv, FER-2013.csv, icml_face_data.csv; ckextended.csv."""
    name = path.rpartition("/")[2].lower()
    return next((of for of, start in CSV_NAMES.items() if name.startswith(start) and name.endswith(".csv")), None)


def set_of_table(table: Table) -> str | None:
    """The data set that a table is by its name or else by its number of rows; None if neither shows it."""
    name = named_set(table.path)
    if name or not set(table.columns) >= LABELLED:
        return name
    rows = count_rows(table, CKPLUS_ROWS * 10)
    return "fer2013" if rows == CKPLUS_ROWS * 10 else "ckplus" if rows == CKPLUS_ROWS else None


def count_rows(table: Table, most: int) -> int:
    """The rows of a table below its header that are not blank; no more than `most` are looked at."""
    with open_text(table.tree, table.path) as file:
        rows = (line for number, line in enumerate(lines_of(file), start=1) if number > table.header and line.strip())
        return sum(1 for _ in itertools.islice(rows, most))


def describe_lacking(table: Table) -> str:
    """Which columns a table lacks, and what that means."""
    lacking = [name for name in COLUMNS if name.lower() not in table.columns]
    return (
        f"{table.name} has no column {' and none '.join(lacking)}"
        f" ({'no labels' if 'emotion' in lacking else 'which face is train, val or test is not said'})"
    )


def read_faces(
    table: Table, facts: DatasetFacts, emotions: Sequence[str], split_of: Callable[[Row], str]
) -> Iterator[Face]:
    """The faces row by row, less those of classes that the data set leaves out; UserError that lists all bad rows."""

    def parse(row: Row) -> Face:
        label = parse_code(row.cells["emotion"], emotions, 0, row.where)
        image = parse_pixels(row.cells["pixels"], facts.size, row.where)
        return Face(image, label, split_of(row), f"{CSV_NAME}{row.number + 2}")

    return (face for face in table.rows(parse) if face.label < len(facts.classes))


def parse_pixels(text: str, size: int, where: str) -> np.ndarray:
    """uint8 size×size×1 from numbers between spaces; UserError for other text."""
    try:
        if text.encode("ascii", "replace").translate(None, b"0123456789 \t"):
            values = np.array(text.split(), dtype=np.int64)  # slower, and exact about what is no number
        else:
            values = np.fromstring(text, dtype=np.int64, sep=" ")
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: the pixels are not whole numbers between spaces") from error
    if len(values) != size * size:
        raise UserError(f"{where}: {len(values)} pixels instead of {size}×{size} = {size * size}")
    if values.min() < 0 or values.max() > 255:
        raise UserError(f"{where}: pixel values {values.min()}..{values.max()} are outside 0..255")
    return values.astype(np.uint8).reshape(size, size, 1)


def parse_usage(text: str, where: str) -> str:
    """The split of a Usage such as PublicTest, whatever its case; UserError for other words."""
    if text.lower() not in SPLIT_OF_USAGE:
        raise UserError(f"{where}: unknown Usage '{text}'; known are {', '.join(USAGES)}")
    return SPLIT_OF_USAGE[text.lower()]


# ── FER2013 without Usage ────────────────────────────────────────────────────────────────────────────────────────────


def official_split(number: int) -> str:
    """The split of a row of FER2013 in its official order, in which the parts follow one another."""
    ends = np.cumsum([sum(official_counts()[split]) for split in SPLITS])
    return SPLITS[int(np.searchsorted(ends, number, side="right"))]


def official_counts() -> dict[str, tuple[int, ...]]:
    """The published number of faces per split and class of FER2013."""
    counts = DATASETS["fer2013"].official_counts
    assert counts is not None
    return counts


def is_official_order(table: Table, emotions: Sequence[str]) -> bool:
    """Whether a table has as many rows as FER2013, and each part in the official order its number of every class."""
    labels = list(table.rows(lambda row: parse_code(row.cells["emotion"], emotions, 0, row.where)))
    if len(labels) != sum(map(sum, official_counts().values())):
        return False
    found = {split: [0] * len(EMOTIONS) for split in SPLITS}
    for number, label in enumerate(labels):
        found[official_split(number)][label] += 1
    return all(tuple(found[split]) == tuple(counts) for split, counts in official_counts().items())
