"""FaceData: images, labels, splits and what else is known of the faces of a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ferlib.data.facts import SPLITS, DatasetFacts, dataset_facts
from ferlib.runtime.digests import digest
from ferlib.runtime.errors import UserError


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
    votes: np.ndarray | None = None  # float32 N×classes: share of the annotators who named each class; zeros: no votes
    evidence: np.ndarray | None = None  # uint8 N,H,W, synthetic faces only: 0 or the region that shows the expression

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def facts(self) -> DatasetFacts:
        """What is known of the data set."""
        return dataset_facts(self.dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
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
            raise UserError(f"this version of {self.facts.title} has no subjects; leave --fold out")
        folds = min(folds, len(np.unique(self.subjects)))
        if not 0 <= fold <= folds or folds < len(SPLITS):
            raise UserError(f"--fold {fold}: {self.facts.title} has the folds 1 to {folds}, and needs three")
        splits = split_by_subject(self.subjects, folds, max(fold, 1))
        return replace(self, splits=splits, fingerprint=digest(self.fingerprint, max(fold, 1)))


def split_by_subject(subjects: np.ndarray, folds: int, fold: int) -> np.ndarray:
    """int64 N, index into SPLITS, from the subjects N divided into `folds` at random, the same at every call.

    fold: from 1; its subjects are test, those of the next fold val, all others train.
    """
    people = np.unique(subjects)
    fold_of_person = np.random.default_rng(0).permutation(len(people)) % folds
    fold_of_face = fold_of_person[np.searchsorted(people, subjects)]
    splits = np.full(len(subjects), SPLITS.index("train"))
    splits[fold_of_face == fold % folds] = SPLITS.index("val")
    splits[fold_of_face == fold - 1] = SPLITS.index("test")
    return splits
