"""Every data set as FaceData: found, read once into a memory-mapped cache, split; as a script, its audit.

python datasets.py --dataset fer2013 --data-dir data    counts, copies, leaks, pictures, labels; in words and pictures
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from config import Audit, Evaluate, Stage, Train
from ferlib.data.cache import cached_faces
from ferlib.data.face_data import FaceData
from ferlib.data.facts import FER_SETS, FOLDER, SYNTHETIC_FACES, SYNTHETIC_SUBJECTS, DatasetFacts, dataset_facts
from ferlib.data.joined_votes import faces_by_majority, joined_counts, with_checked_votes, with_joined_votes
from ferlib.data.picture_files import is_picture
from ferlib.data.readers.affectnet import affectnet_folders, affectnet_official
from ferlib.data.readers.ckplus import ckplus_csv, ckplus_folders, ckplus_official
from ferlib.data.readers.face_files import Face, UnreadableError
from ferlib.data.readers.fer2013 import fer2013_csv, fer2013_folders, ferplus_csv, ferplus_folders
from ferlib.data.readers.folders import any_folders
from ferlib.data.readers.jaffe import jaffe_files
from ferlib.data.readers.pixel_csv import IncompleteError
from ferlib.data.readers.places import MissingError, candidate_trees, describe_folder
from ferlib.data.readers.rafdb import rafdb_folders, rafdb_official
from ferlib.data.readers.rafdb_groups import read_groups
from ferlib.data.readers.recognition import describe_sets, is_another_set, other_sets
from ferlib.data.readers.trees import Tree
from ferlib.data.readers.vote_sources import find_pictures, find_tables
from ferlib.data.synthetic.reader import synthetic_faces
from ferlib.data.synthetic.variants import flaw_key, flawed, variant_of
from ferlib.runtime.digests import digest
from ferlib.runtime.errors import UserError, run_script
from ferlib.runtime.flags import parse_flags
from ferlib.runtime.notes import notes_collected
from ferlib.runtime.runs import cache_dir, slug

CACHE_VERSION = 6  # raise it when a reader's output changes
READERS: dict[str, tuple[Callable[[Tree, DatasetFacts], Iterator[Face] | None], ...]] = {
    "fer2013": (fer2013_csv, fer2013_folders),
    "ferplus": (ferplus_csv, ferplus_folders),
    "ferplus8": (ferplus_csv, ferplus_folders),
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


def load_faces(
    dataset: str, data_dir: Path, outputs_dir: Path, fold: int = 0, without: Collection[str] = ()
) -> FaceData:
    """The data set `dataset`, found below `data_dir`, from its cache below `outputs_dir` (made at the first call).

    without: files that are left out, by their paths in the source. UserError for an unknown name, a missing folder, or
    a file that breaks the data set's format.
    """
    facts = dataset_facts(dataset)
    if dataset.startswith(FOLDER):
        check_apart(Path(facts.places[0]), Path(outputs_dir))
    with notes_collected() as notes:
        source = locate(dataset, facts, Path(data_dir), Path(outputs_dir), without)
    cache = cache_of(dataset, facts, source.key, outputs_dir)
    data = cached_faces(cache, dataset, source.faces, source.size, notes)
    if dataset == "fer2013" and data.votes is not None:
        data = with_checked_votes(data)
    elif dataset == "fer2013":
        data = with_joined_votes(data, votes_beside(cache), Path(data_dir), source.root)
    return data.in_fold(fold)


def load_groups(dataset: str, data_dir: Path, outputs_dir: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Group of people → bool N, which of the faces of these names are in it, as the data set itself says; or empty."""
    if not dataset.startswith("rafdb"):
        return {}
    tree = locate(dataset, dataset_facts(dataset), Path(data_dir), Path(outputs_dir)).tree
    return read_groups(tree, names) if tree else {}


class Audited(NamedTuple):
    """A data set as it is audited: without pictures that cannot be read."""

    data: FaceData
    source: str  # where its faces come from
    tree: Tree | None  # the same; None for drawn faces
    unreadable: tuple[str, ...]  # pictures that are left out


def load_audited(flags: Audit) -> Audited:
    """The data set that the flags name, without the pictures that cannot be read, which the other stages refuse."""
    unreadable: tuple[str, ...] = ()
    try:
        data = load_stage(flags)
    except UnreadableError as error:
        unreadable = error.paths
        data = load_faces(flags.dataset, flags.data_dir, flags.outputs_dir, flags.fold, unreadable)
    source = locate(flags.dataset, data.facts, Path(flags.data_dir), Path(flags.outputs_dir), unreadable)
    return Audited(data, str(source.root or "drawn"), source.tree, unreadable)


def cache_of(dataset: str, facts: DatasetFacts, key: str, outputs_dir: Path) -> Path:
    """The folder of the decoded faces of a source."""
    return cache_dir(outputs_dir) / f"{slug(dataset)}-{digest(CACHE_VERSION, key, facts)}"


def votes_beside(cache: Path) -> Path:
    """Where votes are remembered that were joined to the faces of a cache."""
    return cache.with_name(f"votes-{cache.name}.npz")


def check_apart(folder: Path, outputs_dir: Path) -> None:
    """UserError where outputs lie in a folder of faces: their plots and the cache would be faces of it."""
    if folder.is_dir() and outputs_dir.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{outputs_dir} lies in {folder}, a folder of faces; name one outside with --outputs-dir")


class Source(NamedTuple):
    """Where the faces of a data set come from."""

    key: str  # a digest that changes with the source
    faces: Iterable[Face]  # decoded one by one as they are iterated over
    size: int = 0  # bytes that they take decoded, at least
    tree: Tree | None = None  # that they come from; None for drawn ones

    @property
    def root(self) -> Path | None:
        """Of the tree."""
        return self.tree.root if self.tree else None


def locate(
    dataset: str, facts: DatasetFacts, data_dir: Path, outputs_dir: Path, without: Collection[str] = ()
) -> Source:
    """The source of a data set, in its cache or not, less the files `without`; UserError if there is none."""

    def is_known(key: str) -> bool:
        return cache_of(dataset, facts, key, outputs_dir).is_dir()

    try:
        return find_source(dataset, facts, data_dir, is_known, without)
    except UserError:
        joined = join_ferplus(facts, data_dir, outputs_dir) if dataset in FER_SETS[1:] else None
        if joined is None:
            raise
        return joined


def join_ferplus(facts: DatasetFacts, data_dir: Path, outputs_dir: Path) -> Source | None:
    """FER+ made of any copy of FER2013 and votes that lie elsewhere in the data folder; None without one of the two."""
    if not find_tables(data_dir) and not any(True for _ in find_pictures(data_dir)):
        return None
    whole = dataset_facts("fer2013")
    try:
        with notes_collected() as notes:
            source = locate("fer2013", whole, data_dir, outputs_dir)
    except UserError:
        return None
    cache = cache_of("fer2013", whole, source.key, outputs_dir)
    with notes_collected():  # they are said at each call, so that the cache of FER+ need not keep them
        data = cached_faces(cache, "fer2013", source.faces, source.size, notes)
        counts = joined_counts(data, votes_beside(cache), data_dir, source.root)
    if counts is None:
        return None
    key = digest("joined", data.fingerprint, counts.tobytes())
    return Source(key, faces_by_majority(data, counts, len(facts.classes)), data.images.nbytes, source.tree)


def find_source(
    dataset: str,
    facts: DatasetFacts,
    data_dir: Path,
    is_known: Callable[[str], bool] = lambda _: False,
    without: Collection[str] = (),
) -> Source:
    """The source of a data set below `data_dir`, less the files `without`; UserError if there is none.

    is_known: whether the faces of a source with this key are cached; its files are then not looked into.
    """
    if not facts.places:
        counts = SYNTHETIC_FACES, SYNTHETIC_SUBJECTS
        size = SYNTHETIC_FACES * facts.size**2 * facts.channels
        drawn, kind = synthetic_faces(facts, *counts), variant_of(dataset)
        if kind:
            return Source(digest(*counts, flaw_key(kind, facts.size)), flawed(drawn, kind), size)
        return Source(digest(*counts), drawn, size)
    incomplete: IncompleteError | None = None
    others: list[str] = []  # places that are other sets
    for tree in candidate_trees(facts, data_dir):
        try:
            key = tree.signature()
            if without:
                key = digest(key, sorted(without))
                tree.paths = [path for path in tree.paths if path not in without]
            faces = faces_when_asked(dataset, facts, tree) if is_known(key) else faces_in(dataset, facts, tree)
        except IncompleteError as error:
            incomplete = incomplete or error
            continue
        if faces is not None:
            size = 0 if is_known(key) else decoded_size(tree, facts)
            return Source(key, at_least_one(faces, tree.root), size, tree)
        if not dataset.startswith(FOLDER) and (names := other_sets(tree, dataset)):
            others.append(f"; {tree.root} has the names, codes or numbers of faces of {describe_sets(names)}")
    raise incomplete or MissingError(f"{describe_missing(dataset, facts, data_dir)}{''.join(others)}")


def faces_in(dataset: str, facts: DatasetFacts, tree: Tree) -> Iterator[Face] | None:
    """The faces of a tree by the first reader that knows its layout; None if none does, or if it is another set."""
    if not dataset.startswith(FOLDER) and is_another_set(tree, dataset):
        return None
    readers = (any_folders,) if dataset.startswith(FOLDER) else READERS[dataset]
    return next((faces for reader in readers if (faces := reader(tree, facts)) is not None), None)


def faces_when_asked(dataset: str, facts: DatasetFacts, tree: Tree) -> Iterator[Face]:
    """The same, but the tree is looked into only when the first face is asked for."""
    yield from faces_in(dataset, facts, tree) or ()


def decoded_size(tree: Tree, facts: DatasetFacts) -> int:
    """Bytes that the faces of a tree take decoded, at least: a pixel takes up to 4 characters of a CSV.

    Pictures may be larger or smaller than the faces, and not all of them are used: half of them is assumed.
    """
    pictures = sum(is_picture(path) for path in tree.paths) // 2
    tables = sum(max(0, tree.size(path)) for path in tree.paths if path.lower().endswith(".csv"))
    return pictures * facts.size**2 * facts.channels if pictures else max(0, tables // 4)


def describe_missing(dataset: str, facts: DatasetFacts, data_dir: Path) -> str:
    """The line that says that a data set is not there, where it was searched for, and what is there instead."""
    if dataset.startswith(FOLDER):
        place = Path(facts.places[0])
        seen = describe_folder(place) if place.is_dir() else "there is no such folder"
        return f"{place} holds no folders named by class, such as Angry or happiness; {seen}"
    places = ", ".join(f"{place}[.zip]" for place in facts.places)
    return (
        f"no {facts.title} in {data_dir.resolve()} (searched for {places}); {describe_folder(data_dir)}; "
        "see data/README.md for where to get it and what --data-dir expects"
    )


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
    """Audits a data set; with --strict, UserError where something invalidates results."""
    flags = parse_flags(Audit)
    dataset_facts(flags.dataset)
    from ferlib.evaluation.audits import check_strict, summarize
    from ferlib.figures.audit import audit

    content = audit(flags)
    print(summarize(content, flags.outputs_dir))
    if flags.strict:
        check_strict(content)


if __name__ == "__main__":
    run_script(main)
