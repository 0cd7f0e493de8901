"""The pictures of FER+ as its authors' script writes them: FER2013Train|Valid|Test/ferNNNNNNN.png and their votes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ferlib.data.facts import SPLITS
from ferlib.data.readers.pixel_csv import IncompleteError
from ferlib.data.readers.tables import Table, lines_of, open_text
from ferlib.data.readers.trees import FER_PLUS, Tree
from ferlib.data.votes import FER_PLUS_ALL, fer_plus_path, parse_counts, read_counts, read_usages
from ferlib.runtime.errors import UserError

PARTS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
PICTURE = re.compile(rf"(?:^|.*/)(?P<part>{'|'.join(PARTS)})/(?P<name>fer\d{{7}}\.png)$", re.I)
LABELS = re.compile(rf"(?:^|.*/)(?P<part>{'|'.join(PARTS)})/label\.csv$", re.I)
WRITTEN = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
ORDER = [WRITTEN.index(name) for name in FER_PLUS_ALL]
PART_OF = {part.lower(): split for part, split in PARTS.items()}


class VotedPicture(NamedTuple):
    """A picture in a tree, and its votes."""

    path: str
    split: str
    counts: np.ndarray  # int64 10, in the order of FER_PLUS_ALL


def voted_pictures(tree: Tree) -> list[VotedPicture] | None:
    """The pictures of the authors' folders with their votes, by their part and name; None if there are none.

    The number in a name is not the row of the CSV: of 35,714 names in FER_PLUS 57 hold that of their row.
    IncompleteError where neither label.csv nor FER_PLUS lies with the pictures, UserError for pictures that have no
    votes there.
    """
    found = [match for path in tree.paths if (match := PICTURE.fullmatch(path))]
    if not found:
        return None
    counts = counts_by_picture(tree)
    if not counts:
        raise IncompleteError(
            f"{tree.root} has the pictures of FER+, and neither label.csv in their folders nor {FER_PLUS}"
        )
    keys = [(PART_OF[match["part"].lower()], match["name"].lower()) for match in found]
    if strangers := [match[0] for match, key in zip(found, keys, strict=True) if key not in counts]:
        raise UserError(
            f"{tree.root}: {len(strangers):,} of {len(found):,} pictures have no votes, such as {strangers[0]}; "
            "make them again with the authors' script"
        )
    return [VotedPicture(match[0], key[0], counts[key]) for match, key in zip(found, keys, strict=True)]


def counts_by_picture(tree: Tree) -> dict[tuple[str, str], np.ndarray]:
    """Votes int64 10 in the order of FER_PLUS_ALL by the split and the name of a picture.

    From label.csv of each part, or else from FER_PLUS. UserError where one picture has two rows of different votes.
    """
    found: dict[tuple[str, str], np.ndarray] = {}
    for key, counts in rows_of_pictures(tree):
        if key[1] and not np.array_equal(found.setdefault(key, counts), counts):
            raise UserError(f"{tree.root}: {key[1]} of {key[0]} has two rows of different votes; download them again")
    return found


def rows_of_pictures(tree: Tree) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """The split and the name of each row, and its votes; a row of FER_PLUS without Usage has each of the splits."""
    labels = [match for path in tree.paths if (match := LABELS.fullmatch(path))]
    for match in labels:
        split = PART_OF[match["part"].lower()]
        yield from (((split, name), counts) for name, counts in read_labels(tree, match[0]))
    path = fer_plus_path(tree)
    if labels or path is None:
        return
    table = Table(tree, path)
    names = table.rows(lambda row: row.cells.get("image name", "").strip().lower())
    usages = read_usages(tree)
    for row, (name, counts) in enumerate(zip(names, read_counts(table, FER_PLUS_ALL), strict=True)):
        yield from (((split, name), counts) for split in ((usages[row],) if usages else SPLITS))


def read_labels(tree: Tree, path: str) -> list[tuple[str, np.ndarray]]:
    """Name and votes of each row of a label.csv, which has no header: name, "(0, 0, 48, 48)", ten numbers of votes."""
    found = []
    with open_text(tree, path) as file:
        for number, line in enumerate(lines_of(file), start=1):
            if not line.strip():
                continue
            cells = next(csv.reader([line.rstrip("\r\n")], skipinitialspace=True), [])
            where = f"{tree.locate(path)}, row {number} needs a name, a box and {len(WRITTEN)} numbers of votes"
            if len(cells) != len(WRITTEN) + 2:
                raise UserError(f"{where} (it has {len(cells)} columns); the file may be cut short")
            found.append((cells[0].strip().lower(), np.array(parse_counts(cells[2:], where))[ORDER]))
    return found
