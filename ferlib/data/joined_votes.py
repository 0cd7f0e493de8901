"""Votes of FER+ joined to the faces of any copy of FER2013, by row or by picture, and remembered in the cache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from config import EMOTIONS
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.readers.face_files import CSV_NAME, Face
from ferlib.data.readers.trees import size_and_time
from ferlib.data.readers.vote_sources import VotedFaces, find_pictures, find_tables
from ferlib.data.votes import check_agreement, csv_row, majority_faces, vote_shares
from ferlib.runtime.arrays import DamagedError, read_npz
from ferlib.runtime.errors import UserError
from ferlib.runtime.files import atomic_path
from ferlib.runtime.notes import print_note

LEAST_MATCHED = 0.5  # share of the faces; of fewer, the pictures with votes are others


def with_joined_votes(data: FaceData, remembered: Path, data_dir: Path, apart: Path | None = None) -> FaceData:
    """The faces of FER2013 with the shares of the votes that `joined_counts` finds, or as they are."""
    counts = joined_counts(data, remembered, data_dir, apart)
    return data if counts is None else replace(data, votes=vote_shares(counts[:, : len(EMOTIONS)]))


def joined_counts(data: FaceData, remembered: Path, data_dir: Path, apart: Path | None = None) -> np.ndarray | None:
    """Votes int64 N×10, in the order of FER_PLUS_ALL, of the faces of any copy of FER2013; None where none are found.

    Rows of a CSV have the votes of the same row of FER_PLUS, wherever it lies in the data folder; other copies are
    matched by picture to a CSV with votes, or to the pictures that FER+'s script writes; of doubtful matches the votes
    are 0. Lines say how votes were joined, and which do not fit.

    remembered: an npz file that keeps them for as long as the files of the votes are the same. apart: root of the tree
    that the faces come from, which holds no votes.
    """
    kept = recall(remembered, len(data))
    if kept is not None:
        return kept
    by_row = len(data) > 0 and str(data.names[0]).startswith(CSV_NAME)
    files: list[Path] = []  # of the votes that were looked at
    notes: list[str] = []
    for source in find_tables(data_dir, apart) if by_row else find_pictures(data_dir, apart):
        files += source.files
        try:
            found = source.read()
            if isinstance(found, VotedFaces):
                counts, how = by_picture(data, found)
            else:
                found.check_fits(data.splits[rows := rows_of(data)], source.where)
                counts, how = found.counts[np.argsort(rows)], "by row"
            check_agreement(data.labels, data.splits, counts)
        except UserError as error:
            notes.append(f"{source.where}: these votes are not used: {error}")
            print_note(notes[-1])
            continue
        notes.append(f"{source.where}: votes of {counts.any(1).sum():,} of {len(data):,} faces, joined {how}")
        print_note(notes[-1])
        remember(remembered, counts, files, notes)
        return counts
    return None


def rows_of(data: FaceData) -> np.ndarray:
    """int64 N: the faces of a CSV in the order of its rows."""
    return np.argsort([csv_row(str(name)) for name in data.names])


def with_checked_votes(data: FaceData) -> FaceData:
    """The faces with the votes that lie beside them or, where those are of other faces, without, which a line says."""
    assert data.votes is not None
    try:
        check_agreement(data.labels, data.splits, data.votes)
    except UserError as error:
        print_note(f"the votes of FER+ beside {data.dataset} are not used: {error}")
        return replace(data, votes=None)
    return data


def by_picture(data: FaceData, known: VotedFaces) -> tuple[np.ndarray, str]:
    """Votes int64 N×10 of the faces whose picture is found, 0 of the others, and the join in words.

    Copies of a picture share out the votes of its rows, within a split in the order of their labels: annotators saw a
    picture alone, so that the votes of its copies are exchangeable. UserError where most faces are not found.
    """
    from ferlib.data.picture_matching import match_pictures  # scipy, which most commands do not need

    match = match_pictures(data.images, known.images, (data.splits, known.splits), (data.labels, known.labels))
    counts = np.where(match.refused[:, None], 0, known.counts[match.rows])
    refused = int(match.refused.sum())
    if refused > (1 - LEAST_MATCHED) * len(data):
        raise UserError(f"{refused:,} of {len(data):,} faces are not among their pictures")
    return counts, f"by picture{f'; {refused:,} doubtful ones are without votes' if refused else ''}"


def faces_by_majority(data: FaceData, counts: np.ndarray, classes: int) -> Iterator[Face]:
    """The faces of FER2013 as FER+ has them, from their votes int64 N×10 in the order of FER_PLUS_ALL."""
    faces = (
        (Face(image, 0, SPLITS[split], str(name)), votes)
        for image, split, name, votes in zip(data.images, data.splits, data.names, counts, strict=True)
    )
    return majority_faces(faces, classes)


# ── the remembered table ─────────────────────────────────────────────────────────────────────────────────────────────


def remember(path: Path, counts: np.ndarray, files: list[Path], notes: list[str]) -> None:
    """Keeps joined votes with the state of all files that were looked at, and the notes on how they were joined."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, counts=counts.astype(np.int16), files=np.array(states(files)), notes=notes)


def recall(path: Path, count: int) -> np.ndarray | None:
    """The votes int64 N×10 of `count` faces, their note printed; None if there are none, or files changed."""
    try:
        kept = read_npz(path, ("counts",))
        files = [str(line) for line in kept["files"]]
        if files == states([Path(json.loads(line)[0]) for line in files]) and kept["counts"].shape == (count, 10):
            for note in kept["notes"]:
                print_note(str(note))
            return kept["counts"].astype(np.int64)
    except (FileNotFoundError, DamagedError, KeyError, ValueError, TypeError, IndexError):
        pass
    return None


def states(files: list[Path]) -> list[str]:
    """Path, size and time of each file, as JSON."""
    return [json.dumps([str(file.resolve()), *size_and_time(file)]) for file in sorted(set(files))]
