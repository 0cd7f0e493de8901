"""Faces in files: names and codes of classes, faces held out for val and test, pictures found and decoded."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config import EMOTIONS
from ferlib.data.decoding import COUNTED_NOTES, central_square, decode
from ferlib.data.facts import SPLITS, DatasetFacts
from ferlib.data.picture_files import is_hidden, is_picture, left_out
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError
from ferlib.runtime.notes import print_note
from ferlib.runtime.terminal import printable

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
JUNK = ("thumbs.db", "desktop.ini")  # of Windows, in any folder
MAX_BYTES = 1 << 29  # of a picture's file; in an archive a small file may unpack to far more
SHOWN = 10  # unreadable pictures that an error names
CSV_NAME = "row_"  # begins the name of a face of a CSV, before the number of its row; the header is row 1


class UnreadableError(UserError):
    """Pictures of a set that cannot be read."""

    def __init__(self, paths: Sequence[str], *reasons: str):
        super().__init__(*reasons)
        self.paths = tuple(paths)  # in their tree


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


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def visible_files(tree: Tree) -> list[str]:
    """The paths of a tree without folders and without what operating systems leave."""
    paths = (path for path in tree.paths if not path.endswith("/") and not is_hidden(path))
    return [path for path in paths if path.rpartition("/")[2].lower() not in JUNK]


def pictures_of(tree: Tree) -> list[str]:
    """The paths of a tree that are named as pictures."""
    return [path for path in visible_files(tree) if is_picture(path)]


def note_left_out(tree: Tree, used: Iterable[FaceFile], candidates: Collection[str], reason: str) -> None:
    """Prints how many of the candidates are no faces of the set, and the first of their names."""
    paths = {file.path for file in used}
    print_note(left_out(tree.root, [path for path in candidates if path not in paths], len(candidates), reason))


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def decode_faces(tree: Tree, files: Iterable[FaceFile], facts: DatasetFacts) -> Iterator[Face]:
    """Decodes picture files in parallel, split by split; of other sizes, the central square is scaled.

    UserError that names all pictures that cannot be read, or the first ten of them.
    """
    files = sorted(files, key=lambda file: (SPLITS.index(file.split), file.path))
    unreadable: dict[str, str] = {}
    scales: Counter[str] = Counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(lambda file: try_decode(tree, file.path, facts), files)
        for file, outcome in zip(files, outcomes, strict=True):
            if isinstance(outcome, UserError):
                unreadable[file.path] = str(outcome)
            elif not unreadable:
                image, notes = outcome
                scales.update(note for note in notes if note.startswith(COUNTED_NOTES))
                yield Face(image, file.label, file.split, printable(Path(file.path).name), file.subject)
    if unreadable:
        raise unreadable_pictures(tree, unreadable, len(files))
    for note, count in scales.items():
        print_note(f"{tree.root}: {count:,} of {len(files):,} pictures are {note}")


def unreadable_pictures(tree: Tree, unreadable: dict[str, str], of: int) -> UnreadableError:
    """What is wrong with the pictures of a set (path → reason), and what to do."""
    paths, reasons = list(unreadable), list(unreadable.values())
    if len(reasons) == 1:
        return UnreadableError(paths, f"{reasons[0]}; replace the file, or remove it from the set")
    more = [f"and {len(reasons) - SHOWN:,} more"] if len(reasons) > SHOWN else []
    first = f"{tree.root}: {len(reasons):,} of {of:,} pictures cannot be read; replace the files, or remove them:"
    return UnreadableError(paths, first, *(f"  {reason}" for reason in [*sorted(reasons)[:SHOWN], *more]))


def try_decode(tree: Tree, path: str, facts: DatasetFacts) -> tuple[np.ndarray, tuple[str, ...]] | UserError:
    """A picture as decode_file gives it, or why it cannot be read."""
    try:
        return decode_file(tree, path, facts)
    except UserError as error:
        return error


def decode_file(tree: Tree, path: str, facts: DatasetFacts) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 size×size×channels of a picture file, and notes; UserError for one that is missing, broken or huge."""
    name = f"{tree.root}/{path}"
    try:
        with tree.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{name} is missing or broken: {error}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{name} is too large; more than {MAX_BYTES / 1e6:.0f} MB are refused")
    picture = decode(io.BytesIO(content), name)
    return central_square(picture.image, facts.size, facts.channels), picture.notes
