"""The layouts in which people have FER2013, FER+ and RAF-DB, read into faces."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from config import EMOTIONS
from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import (
    Face,
    FaceFile,
    decode_faces,
    parse_code,
    parse_emotion,
    parse_pixels,
    with_validation,
)
from ferlib.data.readers.trees import Tree, ZipTree
from ferlib.runtime.errors import UserError

FER2013_EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")  # codes 0..6
FER2013_USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
FER2013_FACE = re.compile(r"(?:^|/)(?:train|test)/(?P<emotion>[^/]+)/(?P<usage>[^/_]+)[^/]*\.(?:jpe?g|png)$", re.I)
FER_PLUS = "fer2013new.csv"  # the votes of ten annotators, aligned by row with the Kaggle CSV
FER_PLUS_COLUMNS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")  # as EMOTIONS
FER_PLUS_OTHERS = ("contempt", "unknown", "NF")  # NF: not a face
RAFDB_EMOTIONS = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral")  # folders and codes 1..7
RAFDB_FACE = re.compile(r"(?:^|/)(?P<split>train|test)/(?P<code>\d+)/[^/]+\.(?:jpe?g|png)$", re.I)
RAFDB_LIST = "EmoLabel/list_patition_label.txt"  # spelled so by its authors
RAFDB_VOTES = re.compile(r"[^/]*distribution[^/]*\.(?:txt|csv)$", re.I)  # shares of about forty annotators


# ── FER2013 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fer2013_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The Kaggle CSV, with the votes of FER+ where their file lies beside it."""
    faces = pixel_csv(tree, facts, FER2013_EMOTIONS)
    counts = read_fer_plus(tree, FER_PLUS_COLUMNS)
    if faces is None or counts is None:
        return faces
    return (face._replace(votes=vote_shares(counts, face)) for face in faces)


def ferplus_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The same faces with the label that more than half of the annotators gave, as the authors' "majority" mode.

    Faces are left out where the majority says contempt, unknown or not a face, or where there is none.
    """
    faces = pixel_csv(tree, facts, FER2013_EMOTIONS)
    counts = read_fer_plus(tree, (*FER_PLUS_COLUMNS, *FER_PLUS_OTHERS))
    if faces is None:
        return None
    if counts is None:
        raise UserError(f"{FER_PLUS} is missing beside the CSV in {tree.root}; data/README.md says where to get it")
    return majority_faces(faces, counts)


def majority_faces(faces: Iterable[Face], counts: np.ndarray) -> Iterator[Face]:
    for face in faces:
        votes = counts[row_of(face, counts)]
        label = int(votes.argmax())
        if votes[label] > votes.sum() / 2 and label < len(EMOTIONS):
            yield face._replace(label=label, votes=vote_shares(counts[:, : len(EMOTIONS)], face))


def pixel_csv(tree: Tree, facts: DatasetFacts, emotions: Sequence[str]) -> Iterator[Face] | None:
    """A CSV with the columns emotion (a code into `emotions`), pixels and Usage in any order, also with spaces in the
    column names; UserError if the tree is a CSV of other columns, None if there is none."""
    for path in tree.paths:
        if path.endswith(".csv") and not path.endswith(FER_PLUS):
            with io.TextIOWrapper(tree.open(path), "utf-8-sig") as file:
                columns = [name.strip() for name in file.readline().split(",")]
            if {"emotion", "pixels", "Usage"} <= set(columns):
                return read_pixel_csv(tree, path, columns, facts, emotions)
    if tree.root.suffix == ".csv":
        raise UserError(f"{tree.root} does not begin with the columns emotion, pixels, Usage; download it again")
    return None


def read_pixel_csv(
    tree: Tree, path: str, columns: list[str], facts: DatasetFacts, emotions: Sequence[str]
) -> Iterator[Face]:
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


def read_fer_plus(tree: Tree, columns: Sequence[str]) -> np.ndarray | None:
    """Votes int64 rows×columns of FER+ (Barsoum et al., 2016), if its file lies beside the CSV."""
    paths = [path for path in tree.paths if path.endswith(FER_PLUS)]
    if not paths:
        return None
    with io.TextIOWrapper(tree.open(paths[0]), "utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return np.array([[int(row[name]) for name in columns] for row in rows], dtype=np.int64)
    except (KeyError, TypeError, ValueError) as error:
        wanted = ", ".join(columns)
        raise UserError(f"{tree.root}/{paths[0]} needs whole numbers in the columns {wanted} ({error})") from error


def row_of(face: Face, counts: np.ndarray) -> int:
    """The face's row among the votes; its name says its row in the CSV, where the header is the first."""
    row = int(face.name.removeprefix("row_")) - 2
    if row >= len(counts):
        raise UserError(f"row {row + 2}: {FER_PLUS} has only {len(counts)} rows; it must belong to the same CSV")
    return row


def vote_shares(counts: np.ndarray, face: Face) -> np.ndarray:
    """Share of the annotators who named each class; all for the label where none named one of the seven."""
    votes = counts[row_of(face, counts)]
    total = votes.sum()
    return (votes / total if total else np.eye(len(EMOTIONS))[face.label]).astype(np.float32)


def parse_usage(text: str, where: str) -> str:
    if text not in FER2013_USAGES:
        raise UserError(f"{where}: unknown Usage '{text}'; known are {', '.join(FER2013_USAGES)}")
    return FER2013_USAGES[text]


def is_fer2013_name(path: str) -> bool:
    """Whether a file's name begins with a part of FER2013, as in its image-folder version."""
    match = FER2013_FACE.search(path)
    return match is not None and match["usage"] in FER2013_USAGES


def fer2013_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """train|test/<emotion>/<Usage>_*.jpg, the split told by the file name's prefix."""
    files = []
    for path in tree.paths:
        if match := FER2013_FACE.search(path):
            where = f"{tree.root}/{path}"
            files.append(FaceFile(path, parse_emotion(match["emotion"], where), parse_usage(match["usage"], where)))
    return decode_faces(tree, files, facts) if files else None


# ── RAF-DB ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def rafdb_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """DATASET/train|test/1..7/*.jpg, as on Kaggle."""
    files = []
    for path in tree.paths:
        if match := RAFDB_FACE.search(path):
            files.append(FaceFile(path, parse_code(match["code"], RAFDB_EMOTIONS, 1, path), match["split"]))
    return with_rafdb_votes(tree, decode_faces(tree, with_validation(files, facts), facts)) if files else None


def rafdb_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """Image/aligned/*_aligned.jpg with the labels in EmoLabel/list_patition_label.txt, as its authors send it."""
    lists = [path for path in tree.paths if path.endswith(RAFDB_LIST)]
    if not lists:
        return None
    folder = lists[0].removesuffix(RAFDB_LIST) + "Image/aligned"
    with io.TextIOWrapper(tree.open(lists[0]), "utf-8") as file:
        files = [
            parse_rafdb_line(line, folder, f"{tree.root}/{lists[0]}, row {row}")
            for row, line in enumerate(file, start=1)
            if line.strip()
        ]
    return with_rafdb_votes(tree, decode_faces(tree, with_validation(files, facts), facts))


def with_rafdb_votes(tree: Tree, faces: Iterable[Face]) -> Iterator[Face]:
    """The faces with the annotators' votes, where their file lies in the tree: a picture's name and 7 shares a line."""
    path = next((path for path in tree.paths if RAFDB_VOTES.search(path)), None)
    if path is None:
        yield from faces
        return
    with io.TextIOWrapper(tree.open(path), "utf-8-sig") as file:
        rows = (re.split(r"[\s,]+", line.strip()) for line in file if line.strip())
        shares = {Path(row[0]).stem.removesuffix("_aligned"): row[1:] for row in rows}
    for face in faces:
        name = Path(face.name).stem.removesuffix("_aligned")
        yield face._replace(votes=parse_shares(shares.get(name, []), f"{tree.root}/{path}, {name}"))


def parse_shares(texts: list[str], where: str) -> np.ndarray:
    """float32 7 that sum to 1, in the order of EMOTIONS, from numbers in the order of RAF-DB's codes."""
    try:
        values = np.array(texts, dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if len(values) != len(EMOTIONS) or not np.isfinite(values).all() or values.min() < 0 or values.sum() == 0:
        raise UserError(f"{where}: {len(values)} shares where 7 of 0 or more were expected: {' '.join(texts)}")
    return (values / values.sum())[[RAFDB_EMOTIONS.index(name) for name in EMOTIONS]]


def parse_rafdb_line(line: str, folder: str, where: str) -> FaceFile:
    """A line such as "train_00001.jpg 5"."""
    match line.split():
        case [name, code] if name.startswith(("train_", "test_")):
            path = f"{folder}/{Path(name).stem}_aligned.jpg"
            return FaceFile(path, parse_code(code, RAFDB_EMOTIONS, 1, where), name.split("_")[0])
    raise UserError(f"{where}: '{line.strip()}' is not 'train_NNNNN.jpg CODE' or 'test_NNNNN.jpg CODE'")
