"""The layouts of FER2013 and FER+: the Kaggle CSV, and folders of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ferlib.data.facts import DatasetFacts
from ferlib.data.picture_files import is_picture, left_out
from ferlib.data.readers.face_files import (
    Face,
    FaceFile,
    class_named,
    decode_faces,
    hold_out,
    note_left_out,
    parse_emotion,
    pictures_of,
    visible_files,
)
from ferlib.data.readers.ferplus_pictures import voted_pictures
from ferlib.data.readers.parts import split_named, splits_of
from ferlib.data.readers.pixel_csv import USAGES, IncompleteError, parse_usage, pixel_csv
from ferlib.data.readers.trees import FER_PLUS, Tree
from ferlib.data.votes import (
    FER_PLUS_ALL,
    FER_PLUS_COLUMNS,
    majority_faces,
    read_fer_plus,
    read_usages,
    with_agreement,
    with_counts,
    with_votes,
)
from ferlib.runtime.notes import print_note

FER2013_EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")  # codes 0..6
VALIDATION_FRACTION = 0.1  # of train, in the version whose files are not named by their Usage


def fer2013_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The Kaggle CSV, with the votes of FER+ where their file lies beside it."""
    faces = pixel_csv(tree, facts, FER2013_EMOTIONS)
    counts = read_fer_plus(tree, FER_PLUS_COLUMNS) if faces else None
    return faces if faces is None or counts is None else with_votes(faces, counts)


def ferplus_csv(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """The same faces with the label that more than half of the annotators gave, as the authors' "majority" mode.

    Faces are left out where the majority is unknown, not a face or (of seven classes) contempt, or where there is none.
    """
    faces = pixel_csv(tree, facts, FER2013_EMOTIONS)
    if faces is None:
        return None
    counts = read_fer_plus(tree, FER_PLUS_ALL)
    if counts is None:
        raise IncompleteError(f"{FER_PLUS} is missing beside the CSV in {tree.root}; see data/README.md")
    voted = with_agreement(with_counts(faces, counts, read_usages(tree)), str(tree.root))
    return majority_faces(voted, len(facts.classes))


def ferplus_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """FER2013Train|Valid|Test/ferNNNNNNN.png as the authors' script writes them, with label.csv in each or FER_PLUS.

    Labels and faces that are left out as in `ferplus_csv`.
    """
    pictures = voted_pictures(tree)
    if pictures is None:
        return None
    files = [FaceFile(picture.path, number, picture.split) for number, picture in enumerate(pictures)]
    faces = decode_faces(tree, files, facts)
    return majority_faces(((face, pictures[face.label].counts) for face in faces), len(facts.classes))


def fer2013_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """train|test/<emotion>/<Usage>_*.jpg; the prefix of the file name gives the split.

    Training faces in a folder val stay val. In the version without prefixes the folders give the split, if the set has
    as many faces of each class as FER2013.
    """
    below_parts = [path for path in visible_files(tree) if folder_part(path)]
    parts = {path.rsplit("/", 2)[0] for path in below_parts if class_named(path.split("/")[-2])}
    in_parts = [path for path in below_parts if path.rsplit("/", 2)[0] in parts]  # not train_set/images of AffectNet
    paths = [path for path in in_parts if is_picture(path)]
    if not paths:
        return None
    files = [FaceFile(path, parse_emotion(path.split("/")[-2], f"{tree.root}/{path}")) for path in paths]
    print_note(left_out(tree.root, [path for path in in_parts if not is_picture(path)], len(in_parts)))
    note_left_out(tree, files, pictures_of(tree), "as they lie in no folder train, val or test")
    by_folder = splits_of([file.path for file in files], tree.root)
    if any(usage_of(file.path) in USAGES for file in files):
        return decode_faces(tree, by_usage(tree, files, by_folder), facts)
    files = [file._replace(split=split) for file, split in zip(files, by_folder, strict=True)]
    return decode_faces(tree, without_usage(tree, files, facts), facts)


def by_usage(tree: Tree, files: Sequence[FaceFile], by_folder: Sequence[str]) -> list[FaceFile]:
    """The files with the splits of their names' prefixes; UserError for names without one."""
    found, moved = [], 0
    for file, folder in zip(files, by_folder, strict=True):
        split = parse_usage(usage_of(file.path), f"{tree.root}/{file.path}")
        own_val = folder == "val" and split == "train"
        moved += own_val
        found.append(file._replace(split="val" if own_val else split))
    if moved:
        print_note(f"{tree.root}: {moved:,} Training faces in a folder val count as val, beside those of PublicTest")
    return found


def without_usage(tree: Tree, files: Sequence[FaceFile], facts: DatasetFacts) -> list[FaceFile]:
    """The files with val held out of train where there is none; IncompleteError if they are not FER2013's in number."""
    official = {split: np.array(counts) for split, counts in (facts.official_counts or {}).items()}
    found = {split: class_counts(files, split, facts) for split in official}
    if all(np.array_equal(found[split], official[split]) for split in official):
        return list(files)
    given = sum(found.values())
    mixed = official["val"] + official["test"]
    if not (np.array_equal(found["test"], mixed) and np.array_equal(given, official["train"] + mixed)):
        place = str(tree.root).removesuffix(".zip")  # an archive is found by the name of its folder
        raise IncompleteError(
            f"{tree.root}: the names of the files do not begin with the Usage (Training_, PublicTest_, PrivateTest_), "
            f"and the numbers of faces ({describe_counts(found)}) are not FER2013's ({describe_counts(official)}); "
            f"read it as a set of your own: --dataset folder:{place}"
        )
    own_val = found["val"].any()
    val = "the given part" if own_val else "10 % of train, stratified"
    print_note(
        f"{tree.root}: FER2013 without the Usage in its file names: test is the given part, PublicTest and PrivateTest "
        f"mixed ({mixed.sum():,} faces); val is {val}. Figures are not comparable with those on PrivateTest"
    )
    return list(files) if own_val else hold_out(files, VALIDATION_FRACTION, "train", "val")


def class_counts(files: Sequence[FaceFile], split: str, facts: DatasetFacts) -> np.ndarray:
    """int64 classes: the faces of a split."""
    labels = [file.label for file in files if file.split == split]
    return np.bincount(np.array(labels, dtype=np.int64), minlength=len(facts.classes))


def describe_counts(counts: dict[str, np.ndarray]) -> str:
    """The number of faces in each split."""
    return ", ".join(f"{split} {found.sum():,}" for split, found in counts.items())


def folder_part(path: str) -> str | None:
    """The part that the folder above a file's class folder names."""
    names = path.split("/")
    return split_named(names[-3]) if len(names) > 2 else None


def usage_of(path: str) -> str:
    """What a file's name has before its first underscore or its ending."""
    return path.rpartition("/")[2].split("_")[0].split(".")[0]


def is_fer2013_name(path: str) -> bool:
    """Whether a file's name begins with a Usage of FER2013, as in its image-folder version."""
    return usage_of(path) in USAGES and folder_part(path) is not None
