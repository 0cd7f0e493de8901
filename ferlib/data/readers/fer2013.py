"""The layouts of FER2013 and FER+: the Kaggle CSV, and folders of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import Face, FaceFile, decode_faces, parse_emotion
from ferlib.data.readers.pixel_csv import USAGES, IncompleteError, parse_usage, pixel_csv
from ferlib.data.readers.trees import FER_PLUS, Tree
from ferlib.data.votes import FER_PLUS_COLUMNS, FER_PLUS_OTHERS, majority_faces, read_fer_plus, with_votes

FER2013_EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")  # codes 0..6
FER2013_FACE = re.compile(r"(?:^|/)(?:train|test)/(?P<emotion>[^/]+)/(?P<usage>[^/_]+)[^/]*\.(?:jpe?g|png)$", re.I)


def fer2013_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The Kaggle CSV, with the votes of FER+ where their file lies beside it."""
    faces = pixel_csv(tree, facts, FER2013_EMOTIONS)
    counts = read_fer_plus(tree, FER_PLUS_COLUMNS) if faces else None
    return faces if faces is None or counts is None else with_votes(faces, counts)


def ferplus_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The same faces with the label that more than half of the annotators gave, as the authors' "majority" mode.

    Faces are left out where the majority is contempt, unknown or not a face, or where there is none.
    """
    faces = pixel_csv(tree, facts, FER2013_EMOTIONS)
    if faces is None:
        return None
    counts = read_fer_plus(tree, (*FER_PLUS_COLUMNS, *FER_PLUS_OTHERS))
    if counts is None:
        raise IncompleteError(f"{FER_PLUS} is missing beside the CSV in {tree.root}; see data/README.md")
    return majority_faces(faces, counts)


def fer2013_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """train|test/<emotion>/<Usage>_*.jpg; the prefix of the file name gives the split."""
    files = []
    for path in tree.paths:
        if match := FER2013_FACE.search(path):
            where = f"{tree.root}/{path}"
            files.append(FaceFile(path, parse_emotion(match["emotion"], where), parse_usage(match["usage"], where)))
    return decode_faces(tree, files, facts) if files else None


def is_fer2013_name(path: str) -> bool:
    """Whether a file's name begins with a Usage of FER2013, as in its image-folder version."""
    match = FER2013_FACE.search(path)
    return match is not None and match["usage"] in USAGES
