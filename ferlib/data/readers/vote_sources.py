"""Where votes of FER+ lie in a data folder: a table by row of the Kaggle CSV, and pictures that have votes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ferlib.data.facts import DATASETS, FER_SETS, SPLITS
from ferlib.data.readers.archives import ArchiveTree
from ferlib.data.readers.face_files import Face, FaceFile, class_named, decode_faces
from ferlib.data.readers.fer2013 import FER2013_EMOTIONS
from ferlib.data.readers.ferplus_pictures import LABELS, VotedPicture, voted_pictures
from ferlib.data.readers.pixel_csv import is_pixel_csv, parse_usage, pixel_csv
from ferlib.data.readers.places import candidate_trees, is_archive, open_archive, plain_name
from ferlib.data.readers.tables import Table
from ferlib.data.readers.trees import FER_PLUS, Tree, is_folder, scan
from ferlib.data.votes import FER_PLUS_ALL, fer_plus_path, read_counts
from ferlib.runtime.errors import UserError

FACTS = DATASETS["fer2013"]
UNKNOWN = -1  # split or label that a source does not state


class VoteRows(NamedTuple):
    """The rows of FER_PLUS."""

    counts: np.ndarray  # int64 M×10, in the order of FER_PLUS_ALL
    splits: np.ndarray  # int64 M, index into SPLITS; UNKNOWN in a table without Usage

    def check_fits(self, splits: np.ndarray, where: str) -> None:
        """UserError unless the rows have the splits int64 N of the faces that the votes shall be of."""
        if len(splits) != len(self.counts):
            raise UserError(f"{where} has {len(self.counts):,} rows and the CSV {len(splits):,}; they do not belong")
        if others := np.count_nonzero((self.splits != splits) & (self.splits != UNKNOWN)):
            raise UserError(f"{where}: Usage differs from the CSV's in {others:,} rows; they do not belong together")


class VotedFaces(NamedTuple):
    """Pictures with their votes."""

    images: np.ndarray  # uint8 M×48×48×1
    counts: np.ndarray  # int64 M×10, in the order of FER_PLUS_ALL
    splits: np.ndarray  # int64 M, index into SPLITS
    labels: np.ndarray  # int64 M, FER2013's; UNKNOWN with the pictures that FER+'s script writes


@dataclass(frozen=True)
class VoteTable:
    """FER_PLUS in a tree."""

    tree: Tree
    path: str

    @property
    def where(self) -> str:
        """As notes call it."""
        return self.tree.locate(self.path)

    @property
    def files(self) -> list[Path]:
        """The file on disk."""
        return [file_of(self.tree, self.path)]

    def read(self) -> VoteRows:
        """The votes by row; UserError for a damaged table."""
        table = Table(self.tree, self.path)
        counts = read_counts(table, FER_PLUS_ALL)
        if "usage" not in table.columns:
            return VoteRows(counts, np.full(len(counts), UNKNOWN))
        splits = table.rows(lambda row: SPLITS.index(parse_usage(row.cells["usage"].strip(), row.where)))
        return VoteRows(counts, np.fromiter(splits, np.int64, len(counts)))


@dataclass(frozen=True)
class CsvPictures:
    """The rows of a pixel CSV, and the table of their votes."""

    tree: Tree
    table: VoteTable

    @property
    def where(self) -> str:
        """As notes call it."""
        return self.table.where

    @property
    def files(self) -> list[Path]:
        """The files on disk."""
        return [*self.table.files, *(file_of(self.tree, path) for path in self.tree.paths if is_pixel_csv(path))]

    def read(self) -> VotedFaces:
        """The pictures with their votes; UserError for damaged files, and for votes of another CSV."""
        rows, faces = self.table.read(), pixel_csv(self.tree, FACTS, FER2013_EMOTIONS)
        assert faces is not None
        images, splits, labels = stack(faces, len(rows.counts))
        rows.check_fits(splits, self.where)
        return VotedFaces(images, rows.counts, splits, labels)


@dataclass(frozen=True)
class FolderPictures:
    """The pictures that FER+'s script writes."""

    tree: Tree
    pictures: Sequence[VotedPicture]

    @property
    def where(self) -> str:
        """As notes call it."""
        return str(self.tree.root)

    @property
    def files(self) -> list[Path]:
        """The files on disk that change when the votes do."""
        tables = [path for path in self.tree.paths if LABELS.fullmatch(path)] or [fer_plus_path(self.tree) or ""]
        return [file_of(self.tree, path) for path in tables]

    def read(self) -> VotedFaces:
        """The pictures with their votes; UserError for damaged files."""
        files = [FaceFile(picture.path, number, picture.split) for number, picture in enumerate(self.pictures)]
        images, splits, numbers = stack(decode_faces(self.tree, files, FACTS), len(files))
        counts = np.stack([picture.counts for picture in self.pictures])[numbers]
        return VotedFaces(images, counts, splits, np.full(len(images), UNKNOWN))


def stack(faces: Iterable[Face], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 N×H×W×C, splits int64 N and labels int64 N of some `count` faces."""
    found = list(tqdm(faces, desc="reading pictures that have votes", unit=" faces", total=count))
    images = np.stack([face.image for face in found])
    return images, np.array([SPLITS.index(face.split) for face in found]), np.array([face.label for face in found])


def file_of(tree: Tree, path: str) -> Path:
    """The file on disk that holds a file of a tree: itself, or the archive."""
    if isinstance(tree, ArchiveTree):
        return tree.root if path in tree.members else tree.root.with_name(path)
    return tree.folder / path


# ── where they are searched for ──────────────────────────────────────────────────────────────────────────────────────


def find_tables(data_dir: Path, apart: Path | None = None) -> list[VoteTable]:
    """Every FER_PLUS in a data folder or one folder below, also in an archive, each file once.

    apart: root of the tree whose faces lack votes, which is not searched again.
    """
    trees = [*trees_around(data_dir, apart), *other_trees(data_dir, apart)]
    tables = [VoteTable(tree, path) for tree in trees if (path := fer_plus_path(tree))]
    return list({str(file): table for table in tables for file in table.files}.values())


def find_pictures(data_dir: Path, apart: Path | None = None) -> Iterator[CsvPictures | FolderPictures]:
    """The pictures in a data folder or one folder below that have votes, those of a CSV first; apart: as above."""
    trees, tables = trees_around(data_dir, apart), find_tables(data_dir, apart)
    for tree in trees:
        own = fer_plus_path(tree)
        with contextlib.suppress(UserError):  # no copy that can be read
            if pixel_csv(tree, FACTS, FER2013_EMOTIONS) is not None:
                yield from (CsvPictures(tree, table) for table in ([VoteTable(tree, own)] if own else tables))
    for tree in trees:
        with contextlib.suppress(UserError):
            if pictures := voted_pictures(tree):
                yield FolderPictures(tree, pictures)


def trees_around(data_dir: Path, apart: Path | None) -> list[Tree]:
    """The trees of a data folder, and of each folder in it, in which FER2013 may lie; those that cannot be read not."""
    found: list[Tree] = []
    for folder in folders_around(data_dir):
        with contextlib.suppress(UserError):
            found.extend(tree for tree in candidate_trees(FACTS, folder) if tree.root != apart and tree.paths)
    return found


def other_trees(data_dir: Path, apart: Path | None) -> Iterator[Tree]:
    """FER_PLUS alone in a folder, and zip archives of other names than those of other data sets."""
    others = places_of_others()
    for folder in folders_around(data_dir):
        if (folder / FER_PLUS).is_file():
            yield Tree(folder / FER_PLUS)
        for name in sorted(entry.name for entry in scan(folder)):
            path = folder / name
            if is_archive(path) and path.suffix.lower() == ".zip" and plain_name(name) not in others and path != apart:
                with contextlib.suppress(UserError):
                    yield open_archive(path)


def folders_around(data_dir: Path) -> Iterator[Path]:
    """A data folder and those in it, but hidden ones and those of classes and of data sets."""
    if not data_dir.is_dir():
        return
    yield data_dir
    known = {plain_name(place) for place in FACTS.places} | places_of_others()
    for entry in sorted(scan(data_dir), key=lambda entry: entry.name):
        name = entry.name
        if is_folder(entry) and not name.startswith(".") and plain_name(name) not in known and not class_named(name):
            yield data_dir / name


def places_of_others() -> set[str]:
    """The plain names of the places of data sets that do not have FER2013's faces."""
    others = {plain_name(place) for name, facts in DATASETS.items() if name not in FER_SETS for place in facts.places}
    return others - {plain_name(place) for place in FACTS.places}
