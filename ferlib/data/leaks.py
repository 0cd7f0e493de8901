"""Leaks: faces of the train split whose picture, or a near copy of it, stands in val or test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ferlib.data.copies import copy_numbers
from ferlib.data.face_data import FaceData
from ferlib.data.facts import SPLITS
from ferlib.data.near_copies import NearCopies, find_near_copies


@dataclass(frozen=True)
class Leaks:
    """Which faces of a data set are training faces that stand in val or test too."""

    exact: np.ndarray  # bool N: of the same pixels as a face of val or test
    near: np.ndarray  # bool N: others, of which a near copy stands in val or test

    @property
    def either(self) -> np.ndarray:
        """bool N."""
        return self.exact | self.near

    def numbers(self) -> dict[str, int]:
        """How many there are, for JSON."""
        return {"faces": int(self.either.sum()), "exact": int(self.exact.sum()), "near": int(self.near.sum())}


def find_leaks(data: FaceData, pairs: NearCopies | None = None) -> Leaks:
    """The training faces that stand in val or test; pairs: near copies of the set, where they are known already."""
    train = data.splits == SPLITS.index("train")
    numbers = copy_numbers(data)
    if pairs is None:
        pairs = find_near_copies(data.images, np.flatnonzero(train), np.flatnonzero(~train))
    held_out = np.zeros(numbers.max() + 1, bool)
    held_out[numbers[~train]] = True
    exact = train & held_out[numbers]
    beside = np.zeros(numbers.max() + 1, bool)  # pictures with a near copy in val or test
    for one, other in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        beside[numbers[one[held_out[numbers[other]]]]] = True
    return Leaks(exact, train & beside[numbers] & ~exact)


def without_leaks(data: FaceData) -> tuple[FaceData, dict[str, Any]]:
    """The set without the training faces that stand in val or test, and their number; val and test stay whole."""
    leaks = find_leaks(data)
    return data.select(np.flatnonzero(~leaks.either)), leaks.numbers()
