"""Annotators' votes: the files of FER+ and RAF-DB as shares of the classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from config import EMOTIONS
from ferlib.data.facts import SPLITS
from ferlib.data.readers.face_files import CSV_NAME, Face, visible_files
from ferlib.data.readers.pixel_csv import parse_usage
from ferlib.data.readers.tables import Row, Table, lines_of, open_text
from ferlib.data.readers.trees import FER_PLUS, Tree
from ferlib.runtime.errors import UserError

# FER_PLUS: the votes of ten annotators, aligned by row with the Kaggle CSV
FER_PLUS_COLUMNS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")  # as EMOTIONS
FER_PLUS_OTHERS = ("contempt", "unknown", "NF")  # NF: not a face
FER_PLUS_ALL = (*FER_PLUS_COLUMNS, *FER_PLUS_OTHERS)  # the order of counts, whose first columns are the classes
LEAST_AGREEMENT = 0.4  # share of the labels that have the most votes: FER2013's have 64 %, shuffled ones 18 %
ENOUGH = 1000  # faces of a split with votes from which the agreement says something
RAFDB_EMOTIONS = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral")  # folders and codes 1..7
RAFDB_VOTES = re.compile(r"[^/]*distribution[^/]*\.(?:txt|csv)$", re.I)  # shares of about forty annotators


# ── FER+ ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fer_plus_path(tree: Tree) -> str | None:
    """The table of FER+'s votes in a tree, if it is there."""
    return next((path for path in visible_files(tree) if path.lower().endswith(FER_PLUS)), None)


def read_fer_plus(tree: Tree, columns: Sequence[str]) -> np.ndarray | None:
    """Votes int64 rows×columns of FER+ (Barsoum et al., 2016), if its file lies beside the CSV."""
    path = fer_plus_path(tree)
    return None if path is None else read_counts(Table(tree, path), columns)


def read_counts(table: Table, columns: Sequence[str]) -> np.ndarray:
    """The whole numbers int64 rows×columns of a table; UserError that lists the rows that have others."""
    names = [column.lower() for column in columns]
    wanted = f"needs whole numbers in the columns {', '.join(columns)}"
    if missing := [column for column, name in zip(columns, names, strict=True) if name not in table.columns]:
        raise UserError(f"{table.name} {wanted} (it has no {', '.join(missing)}); download it again")

    def parse(row: Row) -> list[int]:
        return parse_counts([row.cells[name] for name in names], f"{row.where} {wanted}")

    counts = list(table.rows(parse))
    if not counts:
        raise UserError(f"{table.name} holds no votes; download it again")
    return np.array(counts, dtype=np.int64)


def parse_counts(cells: Sequence[str], where: str) -> list[int]:
    """Whole numbers of votes; UserError that begins with `where` for other cells."""
    cells = [cell.strip() for cell in cells]
    if not all(cell.isascii() and cell.isdigit() and len(cell) < 6 for cell in cells):
        raise UserError(f"{where} (it has {', '.join(cells)})")
    return list(map(int, cells))


def read_usages(tree: Tree) -> list[str] | None:
    """The splits of the rows of FER+'s file beside the CSV; None where it has no Usage."""
    table = Table(tree, fer_plus_path(tree) or "")
    if "usage" not in table.columns:
        return None
    return list(table.rows(lambda row: parse_usage(row.cells["usage"].strip(), row.where)))


def with_counts(
    faces: Iterable[Face], counts: np.ndarray, usages: Sequence[str] | None = None
) -> Iterator[tuple[Face, np.ndarray]]:
    """Each face with its row of `counts`; its name holds its row in the CSV, where the header is the first.

    UserError where the CSV has more or fewer rows, or other splits than the `usages`: the votes are of other faces.
    """
    row = -1
    for face in faces:
        row = csv_row(face.name)
        if row >= len(counts):
            raise UserError(f"row {row + 2}: {FER_PLUS} has only {len(counts)} rows; it must belong to the same CSV")
        if usages is not None and usages[row] != face.split:
            raise UserError(
                f"row {row + 2}: {FER_PLUS} says {usages[row]} and the CSV beside it {face.split}; they must belong "
                "together: download both again"
            )
        yield face, counts[row]
    if row + 1 < len(counts):
        raise UserError(
            f"{FER_PLUS} has {len(counts):,} rows and the CSV beside it {row + 1:,}; they must belong together; "
            "one of them may be cut short: download both again"
        )


def csv_row(name: str) -> int:
    """The row of a face of a CSV among its rows below the header, from 0, by the face's name: row_2 is 0."""
    return int(name.removeprefix(CSV_NAME)) - 2


def with_votes(faces: Iterable[Face], counts: np.ndarray) -> Iterator[Face]:
    """The faces with the shares of the votes that each class has; counts: votes rows×7. Errors as `with_counts`."""
    return (face._replace(votes=vote_shares(votes)) for face, votes in with_counts(faces, counts))


def with_agreement(faces: Iterable[tuple[Face, np.ndarray]], where: str) -> Iterator[tuple[Face, np.ndarray]]:
    """The faces with FER2013's labels, each with its votes; after the last one, UserError for votes of other faces."""
    seen = []
    for face, counts in faces:
        seen.append((face.label, SPLITS.index(face.split), counts))
        yield face, counts
    if seen:
        labels, splits, votes = map(np.array, zip(*seen, strict=True))
        try:
            check_agreement(labels, splits, votes)
        except UserError as error:
            raise UserError(f"{where}: {error}; {FER_PLUS} must belong to the CSV: download both again") from error


def check_agreement(labels: np.ndarray, splits: np.ndarray, counts: np.ndarray) -> None:
    """UserError for votes that are, in some split, those of other faces, as the labels seldom have the most of them.

    labels, splits: int64 N, FER2013's. counts: N×7 or N×10, of votes or shares of them.
    """
    votes = counts[:, : len(EMOTIONS)]
    for code, split in enumerate(SPLITS):
        rows = np.flatnonzero(votes.any(1) & (splits == code))
        if len(rows) < ENOUGH:
            continue
        agreement = float((votes[rows, labels[rows]] == votes[rows].max(1)).mean())
        if agreement < LEAST_AGREEMENT:
            raise UserError(
                f"only {agreement:.0%} of the labels of {split} have the most votes, of FER2013 it is 64 %: labels or "
                "votes are those of other faces"
            )


def vote_shares(votes: np.ndarray) -> np.ndarray:
    """float32 …×classes: share of the votes for these classes that each has; zeros where there is none."""
    return (votes / np.maximum(votes.sum(-1, keepdims=True), 1)).astype(np.float32)


def majority_class(counts: np.ndarray, classes: int) -> int | None:
    """The class that most annotators of one face named, None where there is none or it is none of the `classes` first.

    As the authors' code in its mode "majority": a class that one annotator alone named counts for nothing, and the
    majority is one of what remains. counts: votes 10 in the order of FER_PLUS_ALL.
    """
    votes = np.where(counts > 1, counts, 0)
    label = int(votes.argmax())
    return label if label < classes and votes[label] > votes.sum() / 2 else None


def majority_faces(faces: Iterable[tuple[Face, np.ndarray]], classes: int = len(EMOTIONS)) -> Iterator[Face]:
    """The faces of which most annotators named the same class, with that label and the shares of the classes.

    faces: each with its votes 10 in the order of FER_PLUS_ALL. classes: 7, or 8 with contempt.
    """
    for face, counts in faces:
        label = majority_class(counts, classes)
        if label is not None:
            votes = np.where(counts > 1, counts, 0)[:classes]
            yield face._replace(label=label, votes=vote_shares(votes))


# ── RAF-DB ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_rafdb_votes(tree: Tree, faces: Iterable[Face]) -> Iterator[Face]:
    """The faces with the annotators' votes, where their file lies in the tree: a picture's name and 7 shares a line."""
    path = next((path for path in visible_files(tree) if RAFDB_VOTES.search(path)), None)
    if path is None:
        yield from faces
        return
    with open_text(tree, path) as file:
        rows = (re.split(r"[\s,]+", line.strip()) for line in lines_of(file) if line.strip())
        shares = {Path(row[0]).stem.removesuffix("_aligned"): row[1:] for row in rows}
    for face in faces:
        name = Path(face.name).stem.removesuffix("_aligned")
        yield face._replace(votes=parse_shares(shares.get(name, []), f"{tree.locate(path)}, {name}"))


def parse_shares(texts: list[str], where: str) -> np.ndarray:
    """float32 7 that sum to 1, in the order of EMOTIONS, from numbers in the order of RAF-DB's codes."""
    try:
        values = np.array(texts, dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if len(values) != len(EMOTIONS) or not np.isfinite(values).all() or values.min() < 0 or values.sum() == 0:
        raise UserError(f"{where}: {len(values)} shares where 7 of 0 or more were expected: {' '.join(texts)}")
    return (values / values.sum())[[RAFDB_EMOTIONS.index(name) for name in EMOTIONS]]
