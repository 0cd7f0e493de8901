"""Every data set as FaceData: found, read once into a memory-mapped cache, split, counted.

python datasets.py --dataset fer2013 --data-dir data    prints the faces by split and class
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from config import Audit, Evaluate, Stage, Train
from ferlib.data.audit import describe
from ferlib.data.cache import read_cache, write_cache
from ferlib.data.copies import training_copies
from ferlib.data.face_data import FaceData
from ferlib.data.facts import FOLDER, SYNTHETIC_FACES, SYNTHETIC_SUBJECTS, DatasetFacts, dataset_facts
from ferlib.data.readers.affectnet import affectnet_folders, affectnet_official
from ferlib.data.readers.ckplus import ckplus_csv, ckplus_folders, ckplus_official
from ferlib.data.readers.face_files import Face
from ferlib.data.readers.fer2013 import fer2013_csv, fer2013_folders, ferplus_csv
from ferlib.data.readers.folders import any_folders
from ferlib.data.readers.jaffe import jaffe_files
from ferlib.data.readers.rafdb import rafdb_folders, rafdb_official
from ferlib.data.readers.trees import Tree, candidate_trees
from ferlib.data.synthetic.reader import synthetic_faces
from ferlib.runtime.digests import digest
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.runs import cache_dir, slug

CACHE_VERSION = 3  # raise it when a reader's output changes
READERS: dict[str, tuple[Callable[[Tree, DatasetFacts], Iterator[Face] | None], ...]] = {
    "fer2013": (fer2013_csv, fer2013_folders),
    "ferplus": (ferplus_csv,),
    "rafdb": (rafdb_official, rafdb_folders),
    "affectnet": (affectnet_official, affectnet_folders),
    "affectnet8": (affectnet_official, affectnet_folders),
    "jaffe": (jaffe_files,),
    "ckplus": (ckplus_official, ckplus_folders, ckplus_csv),
}
Foldable = TypeVar("Foldable", Train, Evaluate)


def load_stage(flags: Stage | Audit) -> FaceData:
    """The data set that the flags of a stage name, in their fold."""
    return load_faces(flags.dataset, flags.data_dir, flags.outputs_dir, flags.fold)


def load_faces(dataset: str, data_dir: Path, outputs_dir: Path, fold: int = 0) -> FaceData:
    """The data set `dataset`, found below `data_dir`, from its cache below `outputs_dir` (made at the first call).

    UserError for an unknown name, a missing folder, or a file that breaks the data set's format.
    """
    facts = dataset_facts(dataset)
    key, faces = find_faces(dataset, facts, Path(data_dir))
    folder = cache_dir(outputs_dir) / f"{slug(dataset)}-{digest(CACHE_VERSION, key, facts)}"
    if not folder.exists():
        write_cache(folder, faces, facts)
    return read_cache(folder, dataset).in_fold(fold)


def find_faces(dataset: str, facts: DatasetFacts, data_dir: Path) -> tuple[str, Iterable[Face]]:
    """A digest of the source, and its faces, which are decoded one by one as they are iterated over."""
    if dataset == "synthetic":
        counts = SYNTHETIC_FACES, SYNTHETIC_SUBJECTS
        return digest(*counts), synthetic_faces(facts, *counts)
    for tree in candidate_trees(facts, data_dir):
        for reader in (any_folders,) if dataset.startswith(FOLDER) else READERS[dataset]:
            faces = reader(tree, facts)
            if faces is not None:
                return tree.signature(), at_least_one(faces, tree.root)
    if dataset.startswith(FOLDER):
        raise UserError(f"{facts.places[0]} is no folder that holds folders named by class, such as Angry or happiness")
    places = ", ".join(f"{place}[.zip]" for place in facts.places)
    where = f"{data_dir.resolve()} (searched for {places})"
    raise UserError(f"no {facts.title} in {where}; see data/README.md for where to get it and what --data-dir expects")


def at_least_one(faces: Iterable[Face], source: Path) -> Iterator[Face]:
    """The faces of a source; UserError if there is none."""
    faces = iter(faces)
    first = next(faces, None)
    if first is None:
        raise UserError(f"{source} holds no faces; see data/README.md for its layout")
    yield first
    yield from faces


def in_folds(flags: Foldable) -> list[Foldable]:
    """The flags as they are, or with --all-folds once for each fold; UserError for a data set without folds."""
    if not flags.all_folds:
        return [flags]
    facts = dataset_facts(flags.dataset)
    if not facts.folds:
        raise UserError(f"{facts.title} is not split by subject; leave --all-folds out")
    return [replace(flags, fold=fold) for fold in range(1, facts.folds + 1)]


def main() -> None:
    flags = parse_flags(Audit)
    data = load_stage(flags)
    print(f"{data.facts.title}: {len(data):,} faces of {'×'.join(map(str, data.images.shape[1:]))}")
    print(describe(data))
    copies = training_copies(data)
    print(f"test faces with a pixel-identical copy in train: {copies.sum():,} of {len(copies):,}")


if __name__ == "__main__":
    run_script(main)
