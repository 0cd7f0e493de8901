"""The layouts of JAFFE and CK+, posed in a laboratory by known subjects, read into faces; the folds make the splits."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import (
    CLASSES,
    Face,
    FaceFile,
    class_named,
    decode_faces,
    of_known_class,
    parse_code,
)
from ferlib.data.readers.folders import class_folders
from ferlib.data.readers.trees import Tree
from ferlib.data.readers.voted import pixel_csv
from ferlib.runtime.errors import UserError

# "KA.AN1.39.tiff": subject, expression and its take, number of the picture
JAFFE_FACE = re.compile(r"(?:^|/)(?P<subject>[A-Z]{2})[.-](?P<code>[A-Z]{2})\d[.-]\d+\.(?:tiff?|png|jpe?g|bmp)$", re.I)
CKPLUS_EMOTIONS = ("Neutral", "Angry", "Contempt", "Disgust", "Fear", "Happy", "Sad", "Surprise")  # codes 0..7
CKPLUS_CSV_EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral", "Contempt")  # of ckextended
CKPLUS_LABEL = re.compile(r"(?:^|/)(?P<sequence>S\d+/\d+)/S\d+_\d+_\d+_emotion\.txt$")
CKPLUS_FRAME = re.compile(r"(?:^|/)(?P<sequence>S\d+/\d+)/S\d+_\d+_(?P<number>\d+)\.(?:png|jpe?g)$")
CKPLUS_NAME = re.compile(r"(?:^|/)(?P<subject>S\d+)_\d+_\d+\.(?:png|jpe?g)$")
PEAK_FRAMES = 3  # the last frames of a sequence show its expression; the first one shows none


def jaffe_files(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The files that its authors name by subject and expression, in whatever folders."""
    found = [match for path in tree.paths if (match := JAFFE_FACE.search(path))]
    if not found:
        return None
    people = number_subjects(match["subject"].upper() for match in found)
    files = []
    for match in found:
        name = class_named(match["code"])
        if name is None:
            raise UserError(f"{tree.root}/{match.string}: unknown expression '{match['code']}'")
        files.append(FaceFile(match.string, CLASSES.index(name), subject=people[match["subject"].upper()]))
    return decode_faces(tree, of_known_class(files, facts), facts)


def ckplus_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """cohn-kanade-images/S005/001/*.png with the labels in Emotion/S005/001/*_emotion.txt.

    Of each labelled sequence, which goes from neutral to the peak (Lucey et al., 2010, section 3), the last frames show
    the expression and the first one is neutral.
    """
    labels = {match["sequence"]: path for path in tree.paths if (match := CKPLUS_LABEL.search(path))}
    if not labels:
        return None
    frames: dict[str, list[tuple[int, str]]] = {}
    for path in tree.paths:
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
    with io.TextIOWrapper(tree.open(path), "utf-8") as file:
        text = file.read().strip()
    try:
        return parse_code(str(int(float(text))), CKPLUS_EMOTIONS, 0, f"{tree.root}/{path}")
    except ValueError as error:
        raise UserError(f"{tree.root}/{path}: '{text}' is not the number of an expression") from error


def ckplus_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """CLASS/S010_004_00000017.png, the 48×48 version on Kaggle; the file names tell the subjects."""
    files = [file for file in class_folders(tree) if CKPLUS_NAME.search(file.path)]
    if not files:
        return None
    names = [CKPLUS_NAME.search(file.path)["subject"] for file in files]
    people = number_subjects(names)
    files = [file._replace(split="train", subject=people[name]) for file, name in zip(files, names, strict=True)]
    return decode_faces(tree, of_known_class(files, facts), facts)


def ckplus_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The CSV on Kaggle with columns emotion, pixels and Usage: it names no subjects and brings its own parts."""
    return pixel_csv(tree, facts, CKPLUS_CSV_EMOTIONS)


def number_subjects(names: Sequence[str] | Iterator[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}
