"""Every data set as FaceData: found, read once into a memory-mapped cache, split, counted.

python datasets.py --dataset fer2013 --data-dir data
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

import config
from config import FOLDER, SPLITS, DatasetFacts, Stage, dataset_facts, slug
from ferlib.data.readers.face_files import Face
from ferlib.data.readers.folders import affectnet_folders, affectnet_official, any_folders
from ferlib.data.readers.labs import ckplus_csv, ckplus_folders, ckplus_official, jaffe_files
from ferlib.data.readers.trees import Tree, candidate_trees, digest
from ferlib.data.readers.voted import fer2013_csv, fer2013_folders, ferplus_csv, rafdb_folders, rafdb_official
from ferlib.data.synthetic.faces import draw_faces
from utils import UserError, run_script

CACHE_VERSION = 1  # raise it when a reader's output changes
READERS: dict[str, tuple[Callable[[Tree, DatasetFacts], Iterator[Face] | None], ...]] = {
    "fer2013": (fer2013_csv, fer2013_folders),
    "ferplus": (ferplus_csv,),
    "rafdb": (rafdb_official, rafdb_folders),
    "affectnet": (affectnet_official, affectnet_folders),
    "affectnet8": (affectnet_official, affectnet_folders),
    "jaffe": (jaffe_files,),
    "ckplus": (ckplus_official, ckplus_folders, ckplus_csv),
}


@dataclass(frozen=True)
class FaceData:
    """A data set, or some faces of it."""

    dataset: str
    images: np.ndarray  # uint8 N,H,W,C, memory-mapped
    labels: np.ndarray  # int64 N, index into `classes`
    names: np.ndarray  # str N, the file or row that each face came from
    splits: np.ndarray  # int64 N, index into SPLITS
    fingerprint: str  # of the decoded data set
    subjects: np.ndarray | None = None  # int64 N
    votes: np.ndarray | None = None  # float32 N×classes: share of the annotators who named each class
    evidence: np.ndarray | None = None  # uint8 N,H,W, synthetic faces only: 0 or the region that shows the expression

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def facts(self) -> DatasetFacts:
        return dataset_facts(self.dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.facts.classes

    def split(self, name: str) -> FaceData:
        """The faces of "train", "val" or "test"; UserError if there are none."""
        rows = np.flatnonzero(self.splits == SPLITS.index(name))
        if not len(rows):
            raise UserError(f"{self.facts.title} has no faces in its {name} split")
        return self.select(rows)

    def select(self, rows: np.ndarray) -> FaceData:
        """The faces at `rows`, in that order; a view, not a copy, where they lie together."""
        together = np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
        index = slice(int(rows[0]), int(rows[0]) + len(rows)) if together else rows
        arrays = {
            name: getattr(self, name)
            for name in ("images", "labels", "names", "splits", "subjects", "votes", "evidence")
        }
        return replace(self, **{name: array[index] for name, array in arrays.items() if array is not None})

    def counts(self) -> dict[str, list[int]]:
        """Faces per split and class, in the order of the classes."""
        labels = {split: self.labels[self.splits == code] for code, split in enumerate(SPLITS)}
        return {split: np.bincount(found, minlength=len(self.classes)).tolist() for split, found in labels.items()}

    def in_fold(self, fold: int) -> FaceData:
        """The same faces split by subject: one fold is test, the next one val, the others are train.

        fold: from 1; 0 gives the first fold of a set that has folds, and changes nothing in other sets. UserError for
        a fold that there is not.
        """
        folds = self.facts.folds
        if not folds or (self.subjects is None and not fold):
            if fold:
                raise UserError(f"{self.facts.title} is not split by subject; leave --fold out")
            return self
        if self.subjects is None:
            raise UserError(f"this version of {self.facts.title} does not say who its subjects are; leave --fold out")
        folds = min(folds, len(np.unique(self.subjects)))
        if not 0 <= fold <= folds or folds < len(SPLITS):
            raise UserError(f"--fold {fold}: {self.facts.title} has the folds 1 to {folds}, and needs three")
        splits = split_by_subject(self.subjects, folds, max(fold, 1))
        return replace(self, splits=splits, fingerprint=digest(self.fingerprint, max(fold, 1)))


def split_by_subject(subjects: np.ndarray, folds: int, fold: int) -> np.ndarray:
    """int64 N, index into SPLITS: the subjects N dealt into `folds`, the same at every call; `fold` counts from 1."""
    people = np.unique(subjects)
    dealt = np.random.default_rng(0).permutation(len(people)) % folds
    own = dealt[np.searchsorted(people, subjects)]
    splits = np.full(len(subjects), SPLITS.index("train"))
    splits[own == fold % folds] = SPLITS.index("val")
    splits[own == fold - 1] = SPLITS.index("test")
    return splits


def load_stage(flags: Stage | config.Doctor) -> FaceData:
    """The data set that the flags of a stage name, in their fold."""
    return load_faces(flags.dataset, flags.data_dir, flags.outputs_dir, flags.fold)


def load_faces(dataset: str, data_dir: Path, outputs_dir: Path, fold: int = 0) -> FaceData:
    """The data set `dataset`, found below `data_dir`, from its cache below `outputs_dir` (made at the first call).

    UserError for an unknown name, a missing folder, or a file that breaks the data set's format.
    """
    facts = dataset_facts(dataset)
    key, faces = find_faces(dataset, facts, Path(data_dir))
    folder = config.cache_dir(outputs_dir) / f"{slug(dataset)}-{digest(CACHE_VERSION, key, facts)}"
    if not folder.exists():
        write_cache(folder, faces, facts)
    return read_cache(folder, dataset).in_fold(fold)


def find_cached(dataset: str, outputs_dir: Path, fingerprint: str, fold: int = 0) -> FaceData | None:
    """The data set as a stage cached it, whatever its source: the cache with this fingerprint, None if it is gone."""
    for folder in sorted(config.cache_dir(outputs_dir).glob(f"{slug(dataset)}-{16 * '?'}")):
        data = read_cache(folder, dataset)
        if fold or data.fingerprint != fingerprint:
            data = data.in_fold(fold)
        if data.fingerprint == fingerprint:
            return data
    return None


def find_faces(dataset: str, facts: DatasetFacts, data_dir: Path) -> tuple[str, Iterable[Face]]:
    """What identifies the source, and its faces, which are read only when they are asked for."""
    if dataset == "synthetic":
        return digest(config.SYNTHETIC_FACES, config.SYNTHETIC_SUBJECTS), synthetic_faces(facts)
    for tree in candidate_trees(facts, data_dir):
        for reader in (any_folders,) if dataset.startswith(FOLDER) else READERS[dataset]:
            faces = reader(tree, facts)
            if faces is not None:
                return tree.signature(), at_least_one(faces, tree.root)
    if dataset.startswith(FOLDER):
        raise UserError(f"{facts.places[0]} is no folder that holds folders named by class, such as Angry or happiness")
    places = ", ".join(f"{place}[.zip]" for place in facts.places)
    where = f"{data_dir.resolve()} (looked for {places})"
    raise UserError(f"no {facts.title} in {where}; data/README.md says where to get it and what --data-dir expects")


def at_least_one(faces: Iterable[Face], source: Path) -> Iterator[Face]:
    """The faces of a source; UserError if there is none."""
    faces = iter(faces)
    first = next(faces, None)
    if first is None:
        raise UserError(f"{source} holds no faces; data/README.md says what it should look like")
    yield first
    yield from faces


def synthetic_faces(facts: DatasetFacts) -> Iterator[Face]:
    """The embedded faces: 70 % of the subjects for train, 15 % for val, 15 % for test."""
    with tqdm(total=config.SYNTHETIC_FACES, desc="drawing synthetic faces", unit=" faces") as bar:
        drawn = draw_faces(config.SYNTHETIC_FACES, facts.size, subjects=config.SYNTHETIC_SUBJECTS, progress=bar.update)
    bounds = np.array([0.70, 0.85]) * config.SYNTHETIC_SUBJECTS
    splits = np.searchsorted(bounds, drawn.subjects, side="right")
    for row in np.argsort(splits, kind="stable"):
        subject = int(drawn.subjects[row])
        name = f"subject_{subject:03d}_face_{row:04d}"
        yield Face(drawn.images[row], int(drawn.labels[row]), SPLITS[splits[row]], name, subject, drawn.evidence[row])


def training_copies(data: FaceData) -> np.ndarray:
    """bool N: which faces of the test split have a pixel-identical copy in the train split."""
    train = data.splits == SPLITS.index("train")
    return find_copies(data.split("test"), data.split("train")) if train.any() else np.zeros(len(data), dtype=bool)


def find_copies(faces: FaceData, seen: FaceData) -> np.ndarray:
    """bool N: which of the faces are among the others, pixel for pixel; none where the sets' pixels differ in shape."""
    if faces.images.shape[1:] != seen.images.shape[1:]:
        return np.zeros(len(faces), dtype=bool)
    known = {face.tobytes() for face in seen.images}
    return np.array([face.tobytes() in known for face in faces.images], dtype=bool)


# ── the decoded cache ────────────────────────────────────────────────────────────────────────────────────────────────


def write_cache(folder: Path, faces: Iterable[Face], facts: DatasetFacts) -> None:
    """Decodes into a temporary folder that is moved into place when it is whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    bar = tqdm(faces, desc=f"reading {facts.title}", unit=" faces", disable=not facts.places)  # drawing has its own bar
    try:
        columns = write_images(temporary / "images.bin", bar)
        columns["splits"] = np.array([SPLITS.index(split) for split in columns["splits"]], dtype=np.int64)
        fingerprint = hashlib.blake2b(digest_size=16)
        for array in (np.memmap(temporary / "images.bin", np.uint8, "r"), columns["labels"], columns["splits"]):
            fingerprint.update(array)
        np.savez(temporary / "columns.npz", **columns)
        shape = [len(columns["labels"]), facts.size, facts.size, facts.channels]
        (temporary / "facts.json").write_text(json.dumps({"shape": shape, "fingerprint": fingerprint.hexdigest()}))
        move_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_images(path: Path, faces: Iterable[Face]) -> dict[str, np.ndarray]:
    """Appends the images to `path`, one after the other, and returns the rest of the faces as columns."""
    labels, splits, names, subjects, votes, evidence = [], [], [], [], [], []
    with open(path, "wb") as file:
        for face in faces:
            file.write(face.image.tobytes())
            labels.append(face.label)
            splits.append(face.split)
            names.append(face.name)
            subjects.append(face.subject)
            votes.append(face.votes)
            evidence.append(face.evidence)
    columns = {"labels": np.array(labels, dtype=np.int64), "splits": splits, "names": np.array(names)}
    if subjects[0] >= 0:
        columns["subjects"] = np.array(subjects, dtype=np.int64)
    if votes[0] is not None:
        columns["votes"] = np.stack(votes)
    if evidence[0] is not None:
        columns["evidence"] = np.stack(evidence)
    return columns


def move_folder(temporary: Path, folder: Path) -> None:
    try:
        os.replace(temporary, folder)
    except OSError:  # another process made the same cache meanwhile
        if not folder.exists():
            raise


def read_cache(folder: Path, dataset: str) -> FaceData:
    facts = json.loads((folder / "facts.json").read_text())
    images = np.memmap(folder / "images.bin", np.uint8, "c", shape=tuple(facts["shape"]))  # torch wants it writable
    with np.load(folder / "columns.npz") as columns:
        return FaceData(dataset, images, fingerprint=facts["fingerprint"], **columns)


# ── the data doctor ──────────────────────────────────────────────────────────────────────────────────────────────────


def describe(data: FaceData) -> str:
    """A table of the class counts by split, the published ones below where the data set has them."""
    counts, published = data.counts(), data.facts.official_counts or {}
    lines = [table_row("", [f"{emotion:>9}" for emotion in (*data.classes, "all")])]
    lines += [count_row(split, counts[split]) for split in SPLITS]
    if published and "val" not in published:  # then our val is a part of the published train
        counts["train"] = np.add(counts["train"], counts["val"]).tolist()
    for split, expected in published.items():
        verdict = "✓ the same" if counts[split] == list(expected) else "≠ what was found"
        lines.append(f"{count_row(f'published {split}', expected)}  {verdict}")
    return "\n".join(lines)


def count_row(name: str, counts: Sequence[int]) -> str:
    return table_row(name, [f"{count:>9,}" for count in (*counts, sum(counts))])


def table_row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<16}" + "".join(cells)


def main() -> None:
    flags = tyro.cli(config.Doctor)
    data = load_stage(flags)
    print(f"{data.facts.title}: {len(data):,} faces of {'×'.join(map(str, data.images.shape[1:]))}")
    print(describe(data))
    copies = training_copies(data)
    print(f"test faces with a pixel-identical copy in train: {copies.sum():,} of {len(copies):,}")


if __name__ == "__main__":
    run_script(main)
