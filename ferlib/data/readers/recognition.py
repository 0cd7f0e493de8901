"""Which data sets the files of a tree are, by their names, their folders and their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ferlib.data.facts import DATASETS, FER_SETS, DatasetFacts
from ferlib.data.readers.ckplus import CKPLUS_LABEL, CKPLUS_NAME
from ferlib.data.readers.face_files import class_named, pictures_of
from ferlib.data.readers.fer2013 import is_fer2013_name
from ferlib.data.readers.jaffe import JAFFE_FACE
from ferlib.data.readers.pixel_csv import named_set
from ferlib.data.readers.rafdb import RAFDB_LIST
from ferlib.data.readers.trees import Tree

NAMES = {  # data set → how its pictures are named
    "ferplus": re.compile(r"fer\d{7}\.\w+$", re.I),
    "rafdb": re.compile(r"(?:train|test)_\d{4,5}_aligned\.\w+$", re.I),
    "ckplus": CKPLUS_NAME,
    "jaffe": JAFFE_FACE,
}
AFFECTNET_LABEL = re.compile(r"(?P<part>(?:^|.*/)(?P<split>train|val|test)_set)/annotations/(?P<number>\d+)_exp\.npy$")
RAFDB_CODES = {str(code) for code in range(1, 8)}
AFFECTNET_CODES = {str(code) for code in range(8)}


def is_another_set(tree: Tree, dataset: str) -> bool:
    """Whether a tree is recognised as data sets other than `dataset`, whose labels would be read as those of others."""
    found = recognised_sets(tree)
    return bool(found) and found == found - own_sets(dataset)


def other_sets(tree: Tree, dataset: str) -> set[str]:
    """The data sets other than `dataset` whose signs a tree shows."""
    return recognised_sets(tree) - own_sets(dataset)


def own_sets(dataset: str) -> set[str]:
    """The data sets whose signs the files of `dataset` may show."""
    return {plain_set(name) for name in (FER_SETS if dataset in FER_SETS else (dataset,))}


def recognised_sets(tree: Tree) -> set[str]:
    """The data sets whose signs a tree shows: names of files, numbers of faces, codes of folders; empty for none."""
    of_files = {path: set_of_file(path) for path in tree.paths}
    unnamed = [path for path in pictures_of(tree) if of_files[path] is None]
    return {name for name in of_files.values() if name} | (sets_of_counts(unnamed) or set_of_codes(unnamed))


def set_of_file(path: str) -> str | None:
    """The data set that the name of a file states, as that of a picture, of a label or of a table."""
    name = path.rpartition("/")[2]  # patterns are tried on it alone: AffectNet has more than a million files
    for of, pattern in NAMES.items():
        if pattern.match(name):
            return of
    if name.endswith("_exp.npy"):
        return "affectnet" if AFFECTNET_LABEL.fullmatch(path) else None
    if name.endswith("_emotion.txt"):
        return "ckplus" if CKPLUS_LABEL.search(path) else None
    if path.endswith(RAFDB_LIST):
        return "rafdb"
    return "fer2013" if is_fer2013_name(path) else named_set(path)


def set_of_codes(pictures: Sequence[str]) -> set[str]:
    """The data set whose codes name the folders of pictures: RAF-DB has 1 to 7, AffectNet 0 to 6 or 7."""
    codes = {folder for path in pictures if (folder := class_folder(path)) in AFFECTNET_CODES}
    return {"rafdb" if codes <= RAFDB_CODES else "affectnet"} if codes else set()


def sets_of_counts(pictures: Sequence[str]) -> set[str]:
    """The data sets that have as many faces of each class, in all splits or in train, as the class folders have."""
    folders = Counter(folder for path in pictures if is_class(folder := class_folder(path)))
    numbers = sorted(folders.values())
    known = ((plain_set(name), facts) for name, facts in DATASETS.items() if facts.official_counts)
    return {name for name, facts in known if numbers in published_counts(facts)}


def published_counts(facts: DatasetFacts) -> list[list[int]]:
    """The published numbers of faces of the classes, in rising order: in all splits, and in train."""
    official = facts.official_counts or {}
    return [sorted(map(sum, zip(*official.values(), strict=True))), sorted(official["train"])]


def is_class(folder: str) -> bool:
    """Whether a folder is named by a class or by a code."""
    return folder in AFFECTNET_CODES or class_named(folder) is not None


def class_folder(path: str) -> str:
    """The folder of a file, in lower case."""
    return path.split("/")[-2].lower() if "/" in path else ""


def plain_set(dataset: str) -> str:
    """The name of a data set without the number of its classes, which do not show in its files."""
    return dataset.removesuffix("8")


def describe_sets(names: set[str]) -> str:
    """Data sets as errors call them: CK+ and RAF-DB (basic)."""
    return " and ".join(DATASETS[name].title for name in sorted(names))
