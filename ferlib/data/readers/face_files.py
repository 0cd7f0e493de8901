"""Faces in files: names and codes of classes, faces held out for val and test, pictures decoded."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config import EMOTIONS
from ferlib.data.decoding import central_square, decode
from ferlib.data.facts import SPLITS, DatasetFacts
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError

CLASSES = (*EMOTIONS, "Contempt")  # of all sets together
WORDS = {  # what else a class is called, in lower case; JAFFE's file names have the two letters
    "Angry": ("anger", "an"),
    "Disgust": ("disgusted", "di"),
    "Fear": ("fearful", "afraid", "fe"),
    "Happy": ("happiness", "happily", "ha", "joy"),
    "Neutral": ("neutrality", "ne"),
    "Sad": ("sadness", "sa"),
    "Surprise": ("surprised", "su"),
    "Contempt": ("contemptuous", "co"),
}
NAMES = {word: name for name, words in WORDS.items() for word in (name.lower(), *words)}
PICTURE = re.compile(r"\.(?:jpe?g|png|bmp|tiff?|webp)$", re.I)


class Face(NamedTuple):
    """One face as a reader gives it."""

    image: np.ndarray  # uint8 H,W,C
    label: int  # index into the data set's classes
    split: str
    name: str
    subject: int = -1
    evidence: np.ndarray | None = None  # uint8 H,W
    votes: np.ndarray | None = None  # float32, one share per class of EMOTIONS


class FaceFile(NamedTuple):
    """Where a face lies in a tree, with label, split and subject from the layout."""

    path: str
    label: int
    split: str = "train"
    subject: int = -1


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def class_named(text: str) -> str | None:
    """The class of a name, whatever its case or wording: anger, Happiness, SU; None if there is no such class."""
    return NAMES.get(text.strip().lower())


def parse_emotion(text: str, where: str, classes: Sequence[str] = EMOTIONS) -> int:
    """Index into `classes` of a class name, whatever its case or wording; UserError for other names."""
    name = class_named(text)
    if name is None or name not in classes:
        raise UserError(f"{where}: unknown emotion '{text}'; known are {', '.join(classes)}")
    return classes.index(name)


def parse_code(text: str, names: Sequence[str], first: int, where: str) -> int:
    """Index into CLASSES of a data set's own class code, which counts from `first`."""
    codes = {str(code): name for code, name in enumerate(names, start=first)}
    if text.strip() not in codes:
        known = ", ".join(f"{code} {name}" for code, name in codes.items())
        raise UserError(f"{where}: unknown emotion '{text.strip()}'; known are {known}")
    return CLASSES.index(codes[text.strip()])


def of_known_class(files: Iterable[FaceFile], facts: DatasetFacts) -> list[FaceFile]:
    """The files less those of a class that the data set leaves out, as the seven leave out contempt."""
    return [file for file in files if file.label < len(facts.classes)]


def number_subjects(names: Iterable[str]) -> dict[str, int]:
    """Name → number from 0 up, in the order of the names."""
    return {name: number for number, name in enumerate(sorted(set(names)))}


# ── splits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_validation(files: Sequence[FaceFile], facts: DatasetFacts) -> list[FaceFile]:
    """Moves the data set's share of train to val; test stays whole."""
    return hold_out(files, facts.validation_fraction, "train", "val")


def with_test(files: Sequence[FaceFile], facts: DatasetFacts) -> list[FaceFile]:
    """Moves the data set's share of train to test, where the layout has no splits."""
    return hold_out(files, facts.test_fraction, "train", "test")


def hold_out(files: Sequence[FaceFile], fraction: float, source: str, split: str) -> list[FaceFile]:
    """Moves a share of each class from one split to another, the same at every call."""
    rng = np.random.default_rng(0)
    moved = set()
    for label in range(len(CLASSES)):
        rows = [row for row, file in enumerate(files) if file.split == source and file.label == label]
        moved |= set(rng.permutation(rows)[: round(fraction * len(rows))].tolist())
    return [file._replace(split=split) if row in moved else file for row, file in enumerate(files)]


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def decode_faces(tree: Tree, files: Iterable[FaceFile], facts: DatasetFacts) -> Iterator[Face]:
    """Decodes picture files in parallel, split by split; of other sizes, the central square is scaled."""
    files = sorted(files, key=lambda file: (SPLITS.index(file.split), file.path))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(lambda file: decode_file(tree, file.path, facts), files)
        for file, image in zip(files, images, strict=True):
            yield Face(image, file.label, file.split, Path(file.path).name, file.subject)


def decode_file(tree: Tree, path: str, facts: DatasetFacts) -> np.ndarray:
    """uint8 size×size×channels of a picture file; UserError for one that is missing or broken."""
    name = f"{tree.root}/{path}"
    try:
        with tree.open(path) as file:
            content = io.BytesIO(file.read())
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{name} is missing or broken: {error}") from error
    return central_square(decode(content, name).image, facts.size, facts.channels)
