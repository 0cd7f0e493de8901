"""The layouts of AffectNet, and any folder of class-named folders, read into faces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ferlib.data.facts import DatasetFacts
from ferlib.data.readers.face_files import (
    CLASSES,
    PICTURE,
    Face,
    FaceFile,
    class_named,
    decode_faces,
    of_known_class,
    parse_code,
    with_test,
    with_validation,
)
from ferlib.data.readers.trees import Tree
from ferlib.data.readers.voted import is_fer2013_name
from ferlib.runtime.errors import UserError

AFFECTNET_EMOTIONS = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry", "Contempt")  # codes 0..7
AFFECTNET_LABEL = re.compile(r"(?P<part>(?:^|.*/)(?P<split>train|val)_set)/annotations/(?P<number>\d+)_exp\.npy$")
PARTS = {"train": "train", "training": "train", "train_class": "train", "val": "val", "valid": "val",
         "validation": "val", "val_class": "val", "test": "test", "testing": "test"}  # fmt: skip


def any_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """CLASS/*.jpg, or the same below train, val and test; parts that are missing are taken from train."""
    files = class_folders(tree)
    return decode_faces(tree, with_missing_parts(of_known_class(files, facts), facts), facts) if files else None


def affectnet_folders(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """Folders named by class or by the codes 0..7, below train and val (and test), as on Kaggle."""
    if any(is_fer2013_name(path) for path in tree.paths):
        return None  # FER2013's folders look alike
    files = class_folders(tree, AFFECTNET_EMOTIONS)
    return decode_faces(tree, with_missing_parts(of_known_class(files, facts), facts), facts) if files else None


def affectnet_official(tree: Tree, facts: DatasetFacts) -> Iterator[Face] | None:
    """train_set and val_set with images/N.jpg and annotations/N_exp.npy, as its authors send it."""
    found = [match for path in tree.paths if (match := AFFECTNET_LABEL.fullmatch(path))]
    if not found:
        return None
    with ThreadPoolExecutor() as pool:
        codes = pool.map(lambda match: read_code(tree, match[0]), found)
        files = [
            FaceFile(f"{match['part']}/images/{match['number']}.jpg", code, match["split"])
            for match, code in zip(found, codes, strict=True)
        ]
    return decode_faces(tree, with_missing_parts(of_known_class(files, facts), facts), facts)


def read_code(tree: Tree, path: str) -> int:
    """Index into CLASSES; codes above 7, where no expression was seen, give an index that no set has."""
    try:
        with tree.open(path) as file:
            code = int(np.load(file))
    except (ValueError, EOFError) as error:
        raise UserError(f"{tree.root}/{path} does not hold the code of an expression ({error})") from error
    return CLASSES.index(AFFECTNET_EMOTIONS[code]) if code < len(AFFECTNET_EMOTIONS) else len(CLASSES)


def class_folders(tree: Tree, codes: Sequence[str] = ()) -> list[FaceFile]:
    """The pictures in folders named by class or code, the part told by a folder above; empty if no folder is.

    UserError if only some folders with pictures are named so: a misspelt class should not be lost in silence.
    """
    files, unknown = [], set()
    for path in tree.paths:
        *above, folder, _ = ("", *path.split("/")) if path.count("/") else ("", "", path)
        if not PICTURE.search(path):
            continue
        label = class_of_folder(folder, codes, f"{tree.root}/{path}")
        if label is None:
            unknown.add(folder)
        else:
            part = next((PARTS[name.lower()] for name in reversed(above) if name.lower() in PARTS), "train")
            files.append(FaceFile(path, label, part))
    if files and unknown:
        names = ", ".join(sorted(unknown)[:5])
        raise UserError(
            f"{tree.root}: folders with pictures that name no class: {names}; known are {', '.join(CLASSES)}"
        )
    return files


def class_of_folder(folder: str, codes: Sequence[str], where: str) -> int | None:
    if codes and folder.isdigit():
        return parse_code(folder, codes, 0, where)
    name = class_named(folder)
    return None if name is None else CLASSES.index(name)


def with_missing_parts(files: Sequence[FaceFile], facts: DatasetFacts) -> list[FaceFile]:
    """All three parts: a set's only other part beside train is its test, as in papers on AffectNet."""
    parts = {file.split for file in files}
    if "test" not in parts and "val" in parts:
        files = [file._replace(split="test") if file.split == "val" else file for file in files]
    elif "test" not in parts:
        files = with_test(files, facts)
    return with_validation(files, facts) if "val" not in {file.split for file in files} else list(files)
