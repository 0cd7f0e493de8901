"""The layouts of CK+, posed in a laboratory by known subjects; folds over the subjects make its splits."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import (
    CLASSES,
    Face,
    FaceFile,
    decode_faces,
    note_left_out,
    number_subjects,
    of_known_class,
    parse_code,
    pictures_of,
)
from ferlib.data.readers.folders import class_folders
from ferlib.data.readers.pixel_csv import pixel_csv
from ferlib.data.readers.trees import Tree
from ferlib.runtime.errors import UserError

CKPLUS_EMOTIONS = ("Neutral", "Angry", "Contempt", "Disgust", "Fear", "Happy", "Sad", "Surprise")  # codes 0..7
CKPLUS_CSV_EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral", "Contempt")  # of ckextended
CKPLUS_LABEL = re.compile(r"(?:^|/)(?P<sequence>S\d+/\d+)/S\d+_\d+_\d+_emotion\.txt$")
CKPLUS_FRAME = re.compile(r"(?:^|/)(?P<sequence>S\d+/\d+)/S\d+_\d+_(?P<number>\d+)\.\w+$")
CKPLUS_NAME = re.compile(r"(?:^|/)(?P<subject>S\d+)_\d+_\d+\.\w+$")
PEAK_FRAMES = 3  # the last frames of a sequence show its expression; the first one shows none


def ckplus_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """cohn-kanade-images/S005/001/*.png with the labels in Emotion/S005/001/*_emotion.txt.

    Of each labelled sequence, which goes from neutral to the peak (Lucey et al., 2010, section 3), the last frames show
    the expression and the first one is neutral.
    """
    labels = {match["sequence"]: path for path in tree.paths if (match := CKPLUS_LABEL.search(path))}
    if not labels:
        return None
    frames: dict[str, list[tuple[int, str]]] = {}
    for path in pictures_of(tree):
        if match := CKPLUS_FRAME.search(path):
            frames.setdefault(match["sequence"], []).append((int(match["number"]), path))
    people = number_subjects(sequence.split("/")[0] for sequence in labels)
    files = []
    for sequence, path in labels.items():
        shots = [name for _, name in sorted(frames.get(sequence, []))]
        if len(shots) <= PEAK_FRAMES:
            raise UserError(f"{tree.root}: {path} has a label, but the {len(shots)} frames of {sequence} are too few")
        subject = people[sequence.split("/")[0]]
        files.append(FaceFile(shots[0], CLASSES.index("Neutral"), subject=subject))
        label = read_label(tree, path)
        files += [FaceFile(shot, label, subject=subject) for shot in shots[-PEAK_FRAMES:]]
    return decode_faces(tree, of_known_class(files, facts), facts)


def read_label(tree: Tree, path: str) -> int:
    """Index into CLASSES from a file that holds one number, such as "   3.0000000e+00"."""
    with io.TextIOWrapper(tree.open(path), "utf-8", errors="replace") as file:
        text = file.read().strip()
    try:
        return parse_code(str(int(float(text))), CKPLUS_EMOTIONS, 0, f"{tree.root}/{path}")
    except (ValueError, OverflowError) as error:
        raise UserError(f"{tree.root}/{path}: '{text}' is not the number of an expression") from error


def ckplus_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """CLASS/S010_004_00000017.png, the 48×48 version on Kaggle; the file names begin with the subjects."""
    in_folders = class_folders(tree)
    found = [(file, match["subject"]) for file in in_folders if (match := CKPLUS_NAME.search(file.path))]
    if not found:
        return None
    people = number_subjects(subject for _, subject in found)
    files = [file._replace(subject=people[subject]) for file, subject in found]
    note_left_out(tree, files, [file.path for file in in_folders], "as their names do not begin with a subject")
    return decode_faces(tree, of_known_class(files, facts), facts)


def ckplus_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The CSV on Kaggle with columns emotion, pixels and Usage: it names no subjects and brings its own parts."""
    return pixel_csv(tree, facts, CKPLUS_CSV_EMOTIONS)
